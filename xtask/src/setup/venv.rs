//! Virtual environments: the tests', the deployment checks', and the genuine tritonserver's.

use std::path::{Path, PathBuf};

use super::{
    folder::once,
    pip::{PYTHON, install},
};
use crate::project::root;

const TEST_REQUIREMENTS: &str = "xtask/python/tests.txt";
const DEPLOY_REQUIREMENTS: &str = "xtask/python/deploy.txt";
const TRITON_REQUIREMENTS: &str = "xtask/python/triton.txt";
/// Triton's Python backend is linked with the system's Python, so that is what it takes.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// The environment of the tests.
pub(super) fn tests() -> anyhow::Result<()> {
    environment("venv", TEST_REQUIREMENTS, PYTHON).map(drop)
}

/// The Python of the deployment's checks.
///
/// # Errors
/// When Python, venv or pip is missing, or the registry cannot be reached.
pub(crate) fn deploy_python() -> anyhow::Result<PathBuf> {
    environment("deploy-venv", DEPLOY_REQUIREMENTS, PYTHON)
}

/// The Python of the genuine tritonserver.
///
/// # Errors
/// As [`deploy_python`].
pub(crate) fn triton_python() -> anyhow::Result<PathBuf> {
    environment("triton-venv", TRITON_REQUIREMENTS, SYSTEM_PYTHON)
}

/// Makes an environment below `.quintet` where there is none; its interpreter.
fn environment(name: &str, requirements: &str, python: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join(".quintet").join(name);
    let make = |folder: &Path, requirements: &Path| install(python, folder, requirements);
    once(&folder, &root().join(requirements), make)?;
    Ok(folder.join("bin/python"))
}
