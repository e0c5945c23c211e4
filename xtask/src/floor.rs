//! `cargo xtask floor`: compares the server, with a model that computes almost nothing, with a plain socket.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{
    process::{build_release, exit_code, run},
    server::{SUITE, Server},
    setup::setup,
};

/// Builds the programs, serves the models and returns the exit status of `quintet-bench floor`. `head` selects the
/// model that returns 1000 elements of each row, instead of the one that returns its whole input.
///
/// # Errors
/// When a build fails, or the server does not become ready.
pub(crate) fn floor(head: bool, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    setup(false)?;
    build_release()?;
    let folder = std::env::temp_dir().join(format!("quintet-floor-{}", std::process::id()));
    let (models, sockets) = (folder.join("models"), folder.join("sockets"));
    std::fs::create_dir_all(&sockets).with_context(|| sockets.display().to_string())?;
    let output = models.to_str().context("the path of the folder for temporary files is not UTF-8")?;
    run(crate::project::program("release", "quintet-models"), &["passthrough", "--output", output])?;
    let mut command = Command::new(crate::project::program("release", "quintet-server"));
    command.args(["suite", "--service=onnx", "--allow-client-shm", "--model-repository", output, "--uds-dir"]);
    command.arg(&sockets);
    command.current_dir(crate::project::root());
    let mut server = Server::start(command, SUITE)?;
    let ports = server.ports();
    let target = format!(
        "quintet=http://127.0.0.1:{http},grpc://127.0.0.1:{},http+unix:{folder}/onnx-http.sock,\
         grpc+unix:{folder}/onnx-grpc.sock,http+shm://127.0.0.1:{http}",
        ports["onnx-grpc"],
        http = ports["onnx-http"],
        folder = sockets.display(),
    );
    let mut command = Command::new(crate::project::program("release", "quintet-bench"));
    command.args(["floor", "--target", &target]);
    if head {
        command.args(["--model", "head", "--reply-elements", "1000"]);
    }
    let status = command.args(extra_args).status().context("cannot start the benchmark")?;
    server.stop()?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(exit_code(status))
}
