//! Running the program as users do, and Python's packages beside it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program, in an environment where nothing goes through a proxy.
pub(crate) fn run(args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-models"));
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT"]
    {
        command.env_remove(variable);
    }
    command.args(args).output().unwrap().into()
}

/// The output of a command that must succeed.
pub(crate) fn stdout(args: &[&str]) -> String {
    let ran = run(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    ran.stdout
}

/// Runs a Python script that must succeed.
pub(crate) fn python(script: &str, args: &[&Path]) -> String {
    let ran: Ran = Command::new(interpreter()).arg("-c").arg(script).args(args).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// `QUINTET_PYTHON`, or the one that `make setup` makes.
fn interpreter() -> PathBuf {
    if let Some(path) = env::var_os("QUINTET_PYTHON") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quintet/venv/bin/python");
    assert!(path.exists(), "there is no {}: run `make setup`, or set QUINTET_PYTHON", path.display());
    path
}
