//! `cargo xtask check-deploy`: checks the deployment's files with linters, schemas and the programs' help, and runs the examples.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{
    process::build_programs,
    setup::{deploy_python, setup},
};

/// Builds the programs and runs `deploy/tests`, which need no container engine or cluster. They start the programs on ONNX
/// Runtime for the CPU, and run the examples.
///
/// # Errors
/// When a check fails, or its Python packages cannot be installed.
pub(crate) fn check_deploy() -> anyhow::Result<()> {
    let python = deploy_python()?;
    setup(true)?;
    build_programs()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::project::root().join("target"), Into::into);
    let status = Command::new(python)
        .args(["-B", "-m", "unittest", "discover", "--start-directory", "deploy/tests"])
        .env("QUINTET_PROGRAMS", crate::project::root().join(target).join("debug"))
        .current_dir(crate::project::root())
        .status()
        .context("cannot run the checks")?;
    if !status.success() {
        bail!("the checks of the deployment's files failed");
    }
    Ok(())
}
