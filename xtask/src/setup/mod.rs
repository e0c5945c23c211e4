//! Set-up: what building does not bring is fetched from package registries into `.quintet`, once for each version.

mod folder;
mod libtorch;
mod onnxruntime;
mod perf_analyzer;
mod pip;
mod venv;

pub(crate) use libtorch::libtorch;
pub(crate) use onnxruntime::gpu_library;
pub(crate) use perf_analyzer::{PerfAnalyzer, perf_analyzer};
pub(crate) use venv::{deploy_python, triton_python};

/// Makes what is missing: ONNX Runtime, and the Python packages of the tests where they are asked for.
///
/// # Errors
/// When Python or pip is missing, or the registry cannot be reached.
pub(crate) fn setup(tests: bool) -> anyhow::Result<()> {
    onnxruntime::cpu_library()?;
    if tests {
        venv::tests()?;
    }
    Ok(())
}
