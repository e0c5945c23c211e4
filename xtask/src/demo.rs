//! The demo: builds the programs and a model, serves five lanes, measures them.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use crate::{
    process::exit_code,
    server::{SUITE, Server},
    suite::{MODELS, bench_command, prepare, server_command},
};

/// Serves `arch` on free ports and measures the lanes with the quick preset. Returns the benchmark's
/// exit status.
///
/// # Errors
/// When something cannot be built, or the server does not become ready.
pub(crate) fn demo(arch: &str, bench: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    let mut server = Server::start(server_command(&server, Path::new(MODELS), arch), SUITE)?;
    let status = bench_command(&server, arch).args(bench).status().context("cannot start the benchmark")?;
    server.stop()?;
    Ok(exit_code(status))
}

/// Serves `arch` on the usual ports until a signal ends the server.
///
/// # Errors
/// When something cannot be built.
pub(crate) fn serve(arch: &str, flags: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    let status =
        server_command(&server, Path::new(MODELS), arch).args(flags).status().context("cannot start the server")?;
    Ok(exit_code(status))
}
