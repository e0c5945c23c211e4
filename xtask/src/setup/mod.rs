//! Downloads libraries and Python packages from package registries into `.quintet`, once per version.

mod folder;
mod gpu;
mod libraries;
mod libtorch;
mod oha;
mod onnxruntime;
mod openvino;
mod perf_analyzer;
mod pip;
mod tensorrt_rtx;
mod test_models;
mod venv;

pub(crate) use gpu::{Gpu, gpu_libraries};
pub(crate) use libtorch::libtorch;
pub(crate) use oha::oha;
pub(crate) use onnxruntime::gpu_library;
pub(crate) use openvino::openvino;
pub(crate) use perf_analyzer::{PerfAnalyzer, perf_analyzer};
pub(crate) use pip::text;
pub(crate) use tensorrt_rtx::tensorrt_rtx;
pub(crate) use test_models::{test_models, test_models_script};
pub(crate) use venv::{client_examples_python, dependency_programs, deploy_python, object_stores, triton_python};

/// Installs ONNX Runtime for the CPU, for a GPU that can be used (or as [`Gpu::from_environment`] says), and with `tests` the
/// Python packages of the tests, unless they are installed already.
///
/// # Errors
/// When Python or pip is missing, or the package registry cannot be reached.
pub(crate) fn setup(tests: bool) -> anyhow::Result<()> {
    onnxruntime::cpu_library()?;
    gpu::install(Gpu::from_environment()?)?;
    if tests {
        venv::tests()?;
    }
    Ok(())
}
