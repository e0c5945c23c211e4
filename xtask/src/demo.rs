//! The demo: builds the programs and a model, serves five lanes, measures them.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{
    process::{build_release, exit_code, run},
    server::{SUITE, Server},
    setup::setup,
};

/// Where the models of demo and `make serve` are: where the server looks by default.
pub(crate) const MODELS: &str = ".quintet/models";

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

/// The benchmark of all lanes of a server, with the quick preset.
pub(crate) fn bench_command(server: &Server, arch: &str) -> Command {
    let mut command = Command::new(crate::program("release", "quintet-bench"));
    command.args(["run", "--preset=quick", "--model", arch]).current_dir(crate::root());
    for (listener, port) in server.ports() {
        command.arg(format!("--{listener}-url=http://127.0.0.1:{port}"));
    }
    command
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

/// Builds the programs and the model; the server's path.
pub(crate) fn prepare(arch: &str) -> anyhow::Result<PathBuf> {
    setup(false)?;
    build_release()?;
    let models = crate::program("release", "quintet-models");
    run(&models, &["build", "--arch", arch, "--variants", "fp32", "--output", MODELS])?;
    Ok(crate::program("release", "quintet-server"))
}

/// The suite with this model out of a repository.
pub(crate) fn server_command(server: &Path, repository: &Path, arch: &str) -> Command {
    let mut command = Command::new(server);
    command.arg("suite").arg("--model-repository").arg(repository).args(["--model", arch]).current_dir(crate::root());
    command
}
