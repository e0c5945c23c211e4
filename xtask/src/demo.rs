//! The demo: builds the programs and a model, serves five lanes, measures them, stops the server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{process::run, setup::setup};

/// Where the models of demo and `make serve` are: where the server looks by default.
const MODELS: &str = ".quintet/models";

/// How long the server may take to load and warm its models.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// Serves `arch` on free ports and measures the lanes with the quick preset. Returns the benchmark's
/// exit status.
///
/// # Errors
/// When something cannot be built, or the server does not become ready.
pub(crate) fn demo(arch: &str, bench: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    let ports_file = crate::root().join(".quintet/demo-ports.json");
    if ports_file.exists() {
        fs::remove_file(&ports_file).with_context(|| ports_file.display().to_string())?;
    }
    let mut command = server_command(&server, arch);
    command.arg("--ports-file").arg(&ports_file);
    for listener in ["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"] {
        command.arg(format!("--{listener}-port=0"));
    }
    let mut server = Running(command.stdin(Stdio::null()).spawn().context("cannot start the server")?);
    let ports = server.wait_for_ports(&ports_file)?;
    let mut command = Command::new(program("quintet-bench"));
    command.args(["run", "--preset=quick", "--model", arch]).current_dir(crate::root());
    for (listener, port) in &ports {
        command.arg(format!("--{listener}-url=http://127.0.0.1:{port}"));
    }
    let status = command.args(bench).status().context("cannot start the benchmark")?;
    server.stop()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Serves `arch` on the usual ports until a signal ends the server.
///
/// # Errors
/// When something cannot be built.
pub(crate) fn serve(arch: &str, flags: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    let status = server_command(&server, arch).args(flags).status().context("cannot start the server")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Builds the programs and the model; the server's path.
fn prepare(arch: &str) -> anyhow::Result<PathBuf> {
    setup(false)?;
    run("cargo", &["build", "--release", "-p", "quintet-server", "-p", "quintet-bench", "-p", "quintet-models"])?;
    let models = program("quintet-models");
    run(&models, &["build", "--arch", arch, "--variants", "fp32", "--output", MODELS])?;
    Ok(program("quintet-server"))
}

fn server_command(server: &Path, arch: &str) -> Command {
    let mut command = Command::new(server);
    command.args(["suite", "--model-repository", MODELS, "--model", arch]).current_dir(crate::root());
    command
}

fn program(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    crate::root().join(target).join("release").join(name)
}

/// A server that ends with the demo, whatever becomes of that.
struct Running(Child);

impl Running {
    fn wait_for_ports(&mut self, file: &Path) -> anyhow::Result<BTreeMap<String, u16>> {
        let started = Instant::now();
        while started.elapsed() < READY_TIMEOUT {
            if let Ok(text) = fs::read(file) {
                return serde_json::from_slice(&text).with_context(|| file.display().to_string());
            }
            if let Some(status) = self.0.try_wait().context("cannot watch the server")? {
                bail!("the server ended before it was ready: {status}");
            }
            sleep(Duration::from_millis(50));
        }
        bail!("the server was not ready after {} seconds", READY_TIMEOUT.as_secs());
    }

    /// Asks the server to drain and waits until it has.
    fn stop(&mut self) -> anyhow::Result<()> {
        run("kill", &["-TERM", &self.0.id().to_string()])?;
        let status = self.0.wait().context("cannot wait for the server")?;
        if !status.success() {
            bail!("the server did not drain: {status}");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
