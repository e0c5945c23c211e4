//! `cargo xtask test-models`: serves the ONNX models that Python packages ship, without a configuration, and compares the
//! answers with those of ONNX Runtime in another process.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{
    process::{build_programs, exit_code},
    project::{program, root},
    server::{Server, TRITON},
    setup,
};

/// Returns the exit status of `test_models.py`: 0 if each model answers over both protocols as ONNX Runtime does.
///
/// # Errors
/// When a download or build fails, or the server does not become ready.
pub(crate) fn test_models() -> anyhow::Result<ExitCode> {
    setup::setup(true)?;
    let models = setup::test_models()?;
    build_programs()?;
    let mut command = Command::new(program("debug", "quintet-server"));
    // A model that does not load fails the comparison, which tells which ones.
    command.arg("--model-repository").arg(&models).args(["--exit-on-error=false", "--strict-readiness=false"]);
    command.env("ORT_DYLIB_PATH", root().join(".quintet/onnxruntime")).current_dir(root());
    let mut server = Server::start(command, &TRITON)?;
    let ports = ["http", "grpc"].map(|listener| server.ports()[listener].to_string());
    let status = setup::test_models_script().arg("compare").arg(&models).args(ports).status();
    let status = status.context("cannot start test_models.py")?;
    server.stop()?;
    Ok(exit_code(status))
}
