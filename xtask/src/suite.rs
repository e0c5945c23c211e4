//! Builds the programs and a model, and makes the commands that serve and benchmark the suite.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{
    process::{build_release, run},
    project::{program, root},
    server::Server,
    setup::{Gpu, setup},
};

/// The model repository of `demo` and `serve`: the server's default.
pub(crate) const MODELS: &str = ".quintet/models";

/// The command of the benchmark, `run` or `demo`, with the model and the lanes of a server.
pub(crate) fn bench_command(command: &str, server: &Server, arch: &str) -> Command {
    let mut bench = Command::new(program("release", "quintet-bench"));
    bench.args([command, "--model", arch]).current_dir(root());
    for (listener, port) in server.ports() {
        bench.arg(format!("--{listener}-url=http://127.0.0.1:{port}"));
    }
    bench
}

/// Builds the programs and the model. Returns the path of `quintet-server`.
pub(crate) fn prepare(arch: &str) -> anyhow::Result<PathBuf> {
    // Downloads wait for the network, compilers for the processor.
    thread::scope(|scope| {
        let downloads = scope.spawn(|| setup(false));
        build_release()?;
        downloads.join().map_err(|_| anyhow::anyhow!("the set-up panicked"))?
    })?;
    build_model("release", arch, "fp32")?;
    Ok(program("release", "quintet-server"))
}

/// Builds variants of a model with a program of this profile.
pub(crate) fn build_model(profile: &str, arch: &str, variants: &str) -> anyhow::Result<()> {
    let models = program(profile, "quintet-models");
    run(models, &["build", "--arch", arch, "--variants", variants, "--output", MODELS])
}

/// The model and its variant for pixels, as the page sends both.
pub(crate) fn with_pixels(arch: &str) -> String {
    format!("{arch},{arch}_u8")
}

/// The command that serves a model of a repository with the suite: on a GPU, if `setup` has installed its libraries and the
/// variable `GPU` does not say otherwise.
pub(crate) fn server_command(server: &Path, repository: &Path, arch: &str) -> Command {
    let mut command = Command::new(server);
    command.arg("suite").arg("--model-repository").arg(repository).args(["--model", arch]).current_dir(root());
    if matches!(Gpu::from_environment(), Ok(Gpu::Off)) {
        command.env(quintet_onnxruntime::VARIABLE, root().join(quintet_onnxruntime::FOLDER));
    }
    command
}
