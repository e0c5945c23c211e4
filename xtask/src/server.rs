//! Starts `quintet-server` on free ports, waits until it is ready, and stops it.

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

/// Limit on the time in which the server loads and warms up its models.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// The listeners of the suite.
pub(crate) const SUITE: &[&str] =
    &["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"];

/// The listeners of a Triton repository.
pub(crate) const TRITON: [&str; 3] = ["http", "grpc", "metrics"];

/// A running server; dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    ports: BTreeMap<String, u16>,
}

impl Server {
    /// Starts `quintet-server` with `listeners` ([`SUITE`] or [`TRITON`]) on free ports, and waits until it is ready.
    ///
    /// # Errors
    /// When the server cannot be started, ends, or is not ready in time.
    pub(crate) fn start(mut command: Command, listeners: &[&str]) -> anyhow::Result<Self> {
        let ports_file: PathBuf = std::env::temp_dir().join(format!("quintet-ports-{}.json", std::process::id()));
        command.arg("--ports-file").arg(&ports_file).stdin(Stdio::null());
        for listener in listeners {
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

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
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

    /// Sends SIGTERM and waits until the server has drained.
    ///
    /// # Errors
    /// When the server does not end with status 0.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        run("kill", &["-TERM", &self.process.id().to_string()])?;
        self.wait()
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// When it does not end with status 0.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
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
