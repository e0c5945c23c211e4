//! `cargo xtask conformance`: sends recorded requests to the server and compares its responses with Triton's.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{
    process::{build_programs, exit_code},
    server::{SUITE, Server},
    setup::setup,
};

/// Matches all recordings except two. The model of one is not in the recordings' repository, and Triton lists the tensors of
/// an auto-completed configuration in the order of a hash table. In the other Triton cuts a string at its first NUL, which
/// here arrives whole (`docs/values.md`).
const RECORDINGS: &str = "^(?!http/(model_config_alltypes_auto|ok_bytes_bin)$)";

/// Serves the recordings' models and runs their `replay.py`. Returns its exit status: 0 if no response differs.
///
/// # Errors
/// When the server cannot be built or does not become ready.
pub(crate) fn conformance(recordings: &Path, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    setup(true)?;
    build_programs()?;
    let recordings = recordings.canonicalize().with_context(|| recordings.display().to_string())?;
    let mut command = Command::new(crate::project::program("debug", "quintet-server"));
    command.args(["suite", "--service=onnx", "--model-repository"]).arg(recordings.join("models"));
    let mut server = Server::start(command, SUITE)?;
    let address = |listener: &str| format!("127.0.0.1:{}", server.ports()[listener]);
    let status = Command::new(crate::project::root().join(".quintet/venv/bin/python"))
        .arg(recordings.join("replay.py"))
        .args(["--only", RECORDINGS])
        .args(["--http", &address("onnx-http"), "--grpc", &address("onnx-grpc")])
        .args(extra_args)
        .status()
        .context("cannot start replay.py")?;
    server.stop()?;
    Ok(exit_code(status))
}
