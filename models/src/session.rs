//! Opens model files in ONNX Runtime.

use std::path::Path;

use ort::{
    environment::Environment,
    ep::{ArbitrarilyConfigurableExecutionProvider as _, CUDA},
    session::Session,
};
use quintet_onnxruntime::{CUDA_DEFAULTS, RECORD_ASSIGNMENT, nodes_by_provider};

/// Opens a model on the CPU, with ONNX Runtime's defaults and the environment's threads.
///
/// # Errors
/// When the file does not exist, or ONNX Runtime cannot read it.
pub(crate) fn open(environment: &Environment, path: &Path) -> ort::Result<Session> {
    Session::builder(environment)?.commit_from_file(path)
}

/// As [`open`], from the bytes of a model file.
///
/// # Errors
/// When ONNX Runtime cannot read them.
pub(crate) fn open_bytes(environment: &Environment, model: &[u8]) -> ort::Result<Session> {
    Session::builder(environment)?.commit_from_memory(model)
}

/// Opens a model on GPU number `gpu`, with the CUDA provider and the options that the server's sessions have by
/// default.
///
/// # Errors
/// As [`open`]; also when the CUDA provider does not work, or does not run every node of the model.
pub(crate) fn open_on_gpu(environment: &Environment, path: &Path, gpu: i32) -> ort::Result<Session> {
    let cuda = CUDA::default().with_device_id(gpu);
    let cuda = CUDA_DEFAULTS.iter().fold(cuda, |cuda, (name, value)| cuda.with_arbitrary_config(name, value));
    let session = Session::builder(environment)?
        .with_execution_providers([cuda.build().error_on_failure()])?
        .with_config_entry(RECORD_ASSIGNMENT, "1")?
        .commit_from_file(path)?;
    match nodes_by_provider(&session)?.as_slice() {
        [(provider, _)] if provider == "CUDAExecutionProvider" => Ok(session),
        nodes => Err(ort::Error::new(format!("CUDA does not run every node of the model: {nodes:?}"))),
    }
}
