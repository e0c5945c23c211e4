//! `cargo xtask client-examples`: runs the examples of others' clients, unmodified, against the server.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{
    process::{build_programs, exit_code},
    project::{program, root},
    server::{Server, TRITON},
    setup::{client_examples_python, perf_analyzer, setup},
};

/// Serves the models that the examples ask for, and returns the exit status of `client_examples.py`: 0 if each example of these
/// checkouts of Triton's client and of OpenVINO Model Server, each call of KServe's client and each mode of perf_analyzer ends as
/// expected.
///
/// # Errors
/// When a download or build fails, or the server does not become ready.
pub(crate) fn client_examples(triton_client: &Path, model_server: &Path) -> anyhow::Result<ExitCode> {
    let (python, perf_analyzer) = (client_examples_python()?, perf_analyzer()?);
    setup(false)?;
    build_programs()?;
    let models = root().join("target/client-examples");
    if models.exists() {
        std::fs::remove_dir_all(&models).with_context(|| models.display().to_string())?;
    }
    let script = || {
        let mut command = Command::new(&python);
        command.arg("-B").arg(root().join("xtask/python/client_examples.py"));
        command
    };
    let status = script().arg("models").arg(&models).status().context("cannot start client_examples.py")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let mut servers = [serve(&models.join("triton"))?, serve(&models.join("images"))?];
    let mut run = script();
    run.arg("run");
    for server in &servers {
        run.arg(TRITON.map(|listener| server.ports()[listener].to_string()).join(","));
    }
    run.arg(root().join("photos/coffee.jpg")).args([triton_client, model_server, perf_analyzer.program()]);
    let status = perf_analyzer.with_libraries(&mut run).status().context("cannot start client_examples.py")?;
    for server in &mut servers {
        server.stop()?;
    }
    Ok(exit_code(status))
}

/// A server of all models of a repository, which clients may load and unload, under the name that the examples expect.
fn serve(repository: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(program("debug", "quintet-server"));
    command.arg("--model-repository").arg(repository).args(["--model-control-mode=explicit", "--load-model=*"]);
    let trace = format!("--trace-config=triton,file={}", repository.join("trace.json").display());
    command
        .args(["--id=triton", "--allow-client-shm=true", &trace])
        .env("ORT_DYLIB_PATH", root().join(".quintet/onnxruntime"));
    Server::start(command, &TRITON)
}
