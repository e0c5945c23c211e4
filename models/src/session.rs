//! A model file in ONNX Runtime.

use std::path::Path;

use ort::{environment::Environment, session::Session};

/// A session with ONNX Runtime's defaults, on the environment's threads.
///
/// # Errors
/// When there is no file, or ONNX Runtime cannot read it.
pub(crate) fn open(environment: &Environment, path: &Path) -> ort::Result<Session> {
    Session::builder(environment)?.commit_from_file(path)
}
