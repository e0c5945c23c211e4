//! Checks of the deployment's files: linters, schemas, and names compared with the programs' own help.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{process::build_programs, setup::deploy_python};

/// Builds the programs and runs `deploy/tests`; no container engine or cluster is needed.
///
/// # Errors
/// When a check fails, or what it needs cannot be set up.
pub(crate) fn check_deploy() -> anyhow::Result<()> {
    let python = deploy_python()?;
    build_programs()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::project::root().join("target"), Into::into);
    let status = Command::new(python)
        .args(["-B", "-m", "unittest", "discover", "--start-directory", "deploy/tests"])
        .env("QUINTET_PROGRAMS", crate::project::root().join(target).join("debug"))
        .current_dir(crate::project::root())
        .status()
        .context("cannot run the checks")?;
    if !status.success() {
        bail!("the deployment's files are not in order");
    }
    Ok(())
}
