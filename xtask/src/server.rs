//! A server on free ports, from ready to drained.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::process::run;

/// How long the server may take to load and warm its models.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    process: Child,
    ports: BTreeMap<String, u16>,
}

impl Server {
    /// Starts `quintet-server suite ...` on free ports and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let ports_file: PathBuf = std::env::temp_dir().join(format!("quintet-ports-{}.json", std::process::id()));
        command.arg("--ports-file").arg(&ports_file).stdin(Stdio::null());
        for listener in ["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"] {
            command.arg(format!("--{listener}-port=0"));
        }
        let process = command.spawn().context("cannot start the server")?;
        let mut server = Self { process, ports: BTreeMap::new() };
        server.ports = server.wait_for_ports(&ports_file)?;
        fs::remove_file(&ports_file).with_context(|| ports_file.display().to_string())?;
        Ok(server)
    }

    /// The listeners' ports by name, e.g. `onnx-http`.
    pub(crate) fn ports(&self) -> &BTreeMap<String, u16> {
        &self.ports
    }

    fn wait_for_ports(&mut self, file: &Path) -> anyhow::Result<BTreeMap<String, u16>> {
        let started = Instant::now();
        while started.elapsed() < READY_TIMEOUT {
            if let Ok(text) = fs::read(file) {
                return serde_json::from_slice(&text).with_context(|| file.display().to_string());
            }
            if let Some(status) = self.process.try_wait().context("cannot watch the server")? {
                bail!("the server ended before it was ready: {status}");
            }
            sleep(Duration::from_millis(50));
        }
        bail!("the server was not ready after {} seconds", READY_TIMEOUT.as_secs());
    }

    /// Asks the server to drain and waits until it has.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        run("kill", &["-TERM", &self.process.id().to_string()])?;
        let status = self.process.wait().context("cannot wait for the server")?;
        if !status.success() {
            bail!("the server did not drain: {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
