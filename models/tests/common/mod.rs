//! Runs the program, and Python scripts that check its files.
#![allow(dead_code, reason = "no test file uses every function")]

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The exit status and output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("killed by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the program without proxy settings, so that requests to loopback go directly.
pub(crate) fn run(args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-models"));
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT"]
    {
        command.env_remove(variable);
    }
    command.args(args).output().unwrap().into()
}

/// Runs the program, which must succeed; returns its stdout.
pub(crate) fn stdout(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
    output.stdout
}

/// Runs a Python script, which must succeed; returns its stdout.
pub(crate) fn python(script: &str, args: &[&Path]) -> String {
    let output: CommandOutput = Command::new(interpreter()).arg("-c").arg(script).args(args).output().unwrap().into();
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout
}

/// The Python interpreter: `QUINTET_PYTHON`, or the one that `make setup` installs.
fn interpreter() -> PathBuf {
    if let Some(path) = env::var_os("QUINTET_PYTHON") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quintet/venv/bin/python");
    assert!(path.exists(), "{} does not exist: run `make setup`, or set QUINTET_PYTHON", path.display());
    path
}
