//! The suite with one model: built, served, measured.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{build_release, run},
    project::{program, root},
    server::Server,
    setup::setup,
};

/// Where the models of demo and `make serve` are: where the server looks by default.
pub(crate) const MODELS: &str = ".quintet/models";

/// The benchmark of all lanes of a server, with the quick preset.
pub(crate) fn bench_command(server: &Server, arch: &str) -> Command {
    let mut command = Command::new(program("release", "quintet-bench"));
    command.args(["run", "--preset=quick", "--model", arch]).current_dir(root());
    for (listener, port) in server.ports() {
        command.arg(format!("--{listener}-url=http://127.0.0.1:{port}"));
    }
    command
}

/// Builds the programs and the model; the server's path.
pub(crate) fn prepare(arch: &str) -> anyhow::Result<PathBuf> {
    setup(false)?;
    build_release()?;
    let models = program("release", "quintet-models");
    run(&models, &["build", "--arch", arch, "--variants", "fp32", "--output", MODELS])?;
    Ok(program("release", "quintet-server"))
}

/// The suite with this model out of a repository.
pub(crate) fn server_command(server: &Path, repository: &Path, arch: &str) -> Command {
    let mut command = Command::new(server);
    command.arg("suite").arg("--model-repository").arg(repository).args(["--model", arch]).current_dir(root());
    command
}
