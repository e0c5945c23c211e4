//! `cargo xtask peers-clients`: compares the percentiles of quintet-bench with those of other clients, which measure the
//! same server in turns.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{
    process::exit_code,
    project::{program, root},
    server::{Server, TRITON},
    setup::{oha, perf_analyzer},
    suite::{MODELS, prepare},
};

/// Serves `arch` in Triton mode, and returns the exit status of `peers_clients.py`: `rounds` rounds in which each client
/// sends `requests` requests.
///
/// # Errors
/// When a download or build fails, or the server does not become ready.
pub(crate) fn peers_clients(arch: &str, rounds: u32, requests: u32) -> anyhow::Result<ExitCode> {
    let (perf_analyzer, oha) = (perf_analyzer()?, oha()?);
    let mut command = Command::new(prepare(arch)?);
    command.args(["--model-repository", MODELS, "--model-control-mode=explicit", "--load-model", arch]);
    command.current_dir(root());
    let mut server = Server::start(command, &TRITON)?;
    let ports = TRITON.map(|listener| server.ports()[listener].to_string());
    let mut script = Command::new("python3");
    let status = perf_analyzer
        .with_libraries(&mut script)
        .arg(root().join("xtask/python/peers_clients.py"))
        .args([arch, &rounds.to_string(), &requests.to_string()])
        .args(ports)
        .args([program("release", "quintet-bench").as_path(), perf_analyzer.program(), &oha])
        .status()
        .context("cannot start peers_clients.py: it needs Python 3")?;
    server.stop()?;
    Ok(exit_code(status))
}
