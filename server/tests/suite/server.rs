//! A server process on free ports that is killed at the end of its test.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use quintet_models::{Arch, Batching, Graph, Variant, Weights, repository};
use tempfile::TempDir;

/// The model of all tests.
pub(crate) const MODEL: &str = "resnet18";

/// A model repository with the model; it warms and takes batches of up to 4.
pub(crate) fn models() -> &'static Path {
    static MODELS: OnceLock<TempDir> = OnceLock::new();
    MODELS
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let graph = Graph::new(&Weights::from_seed(Arch::ResNet18, 0)).unwrap();
            let batching = Batching::new(4, &[1, 2, 4]).unwrap();
            repository::write(folder.path(), &graph, Variant::Fp32, &batching).unwrap();
            folder
        })
        .path()
}

/// A repository of the small models of `python/small_models.py`, for tests of the protocol.
pub(crate) fn small_models() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    python("small_models.py", [folder.path()]).unwrap();
    folder
}

/// A command of the server's program.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A suite that is ready.
pub(crate) struct Suite {
    process: Child,
    ports: BTreeMap<String, u16>,
    folder: TempDir,
}

impl Suite {
    /// Starts a suite with these flags and waits until it is ready.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = program(&["suite", "--model-repository"]);
        command.arg(models()).args(flags);
        Self::of(command, Path::new("."))
    }

    /// Starts a suite with this command in a folder and waits until it is ready.
    pub(crate) fn of(mut command: Command, folder: &Path) -> Self {
        command.current_dir(folder);
        Self::run(command, &["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"])
    }

    /// Starts a server in Triton mode with these flags and waits until it is ready.
    pub(crate) fn triton(repository: &Path, flags: &[&str]) -> Self {
        let mut command = program(&["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--model-repository"]);
        command.arg(repository).args(flags);
        Self::run(command, &["http", "grpc", "metrics"])
    }

    /// The same with these variables.
    #[cfg(feature = "object-stores")]
    pub(crate) fn triton_with(repository: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = program(&["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--model-repository"]);
        command.arg(repository).args(flags).envs(variables.iter().copied());
        Self::run(command, &["http", "grpc", "metrics"])
    }

    /// The same with a listener on this port, of which the flags say that it is shared.
    pub(crate) fn on_port(repository: &Path, listener: &str, port: u16, flags: &[&str]) -> Self {
        let mut command = program(&["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--model-repository"]);
        command.arg(repository).args(flags).arg(format!("--{listener}-port={port}"));
        let others: Vec<_> = ["http", "grpc", "metrics"].into_iter().filter(|&other| other != listener).collect();
        Self::run(command, &others)
    }

    /// Starts this command of a server and waits until it is ready.
    pub(crate) fn run(mut command: Command, listeners: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ports_file, log) = (folder.path().join("ports.json"), folder.path().join("log"));
        command.arg("--ports-file").arg(&ports_file);
        command.args(listeners.iter().map(|listener| format!("--{listener}-port=0")));
        let log_file = fs::File::create(&log).unwrap();
        let mut process = command.stdout(Stdio::null()).stderr(log_file).spawn().unwrap();
        let started = Instant::now();
        let ports = loop {
            if let Ok(text) = fs::read(&ports_file) {
                break serde_json::from_slice(&text).unwrap();
            }
            let ended = process.try_wait().unwrap();
            let logged = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the server ended: {}", logged());
            assert!(started.elapsed() < Duration::from_secs(120), "the server is not ready: {}", logged());
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { process, ports, folder }
    }

    /// The port of a listener, e.g. `onnx-http`.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        self.ports[listener]
    }

    /// The answer to `GET path` of a listener, head and body.
    pub(crate) fn get(&self, listener: &str, path: &str) -> String {
        self.ask(listener, "GET", path)
    }

    fn ask(&self, listener: &str, method: &str, path: &str) -> String {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port(listener))).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The answer to `POST path` of a listener without a body, head and body.
    #[cfg(feature = "object-stores")]
    pub(crate) fn post(&self, listener: &str, path: &str) -> String {
        self.ask(listener, "POST", path)
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends a signal, e.g. `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        self::signal(signal, self.process.id());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Runs a script of `tests/python` with the listeners' ports as JSON in its first argument.
    pub(crate) fn python(&self, script: &str, arguments: &[&str]) -> String {
        let ports = serde_json::to_string(&self.ports).unwrap();
        let output = python(script, [&[&ports[..]], arguments].concat());
        output.unwrap_or_else(|output| panic!("{output}\n{}", self.log()))
    }
}

/// Sends a signal, e.g. `TERM`, to a process.
pub(crate) fn signal(signal: &str, process: u32) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().unwrap();
    assert!(sent.success());
}

/// Runs a script of `tests/python`. Returns its stdout; as the error its stdout and stderr.
pub(crate) fn python(script: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let ran = Command::new(interpreter()).arg(script).args(arguments).output().unwrap();
    let stdout = String::from_utf8(ran.stdout).unwrap();
    if ran.status.success() { Ok(stdout) } else { Err(format!("{stdout}\n{}", String::from_utf8_lossy(&ran.stderr))) }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `QUINTET_PYTHON`, or the interpreter that `make setup` installs.
fn interpreter() -> PathBuf {
    if let Some(path) = std::env::var_os("QUINTET_PYTHON") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quintet/venv/bin/python");
    assert!(path.exists(), "there is no {}: run `cargo xtask setup --tests`, or set QUINTET_PYTHON", path.display());
    path
}
