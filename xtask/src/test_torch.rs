//! `cargo xtask test-torch`: installs libtorch and runs the tests that need it.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{process::command, setup};

/// Runs the tests that need libtorch. Exit status: 0 if they pass.
///
/// # Errors
/// When libtorch cannot be installed or cargo cannot be started.
pub(crate) fn test_torch() -> anyhow::Result<ExitCode> {
    setup::setup(true)?;
    let libtorch = setup::libtorch()?;
    let mut command = command("cargo");
    // The whole workspace, as in `make test`, so that its build is reused.
    command.args(["test", "--workspace", "--features", "quintet-server/torch", "--test", "suite", "--", "torch"]);
    // The build reads LIBTORCH; the built programs need LD_LIBRARY_PATH.
    command.env("LIBTORCH", &libtorch).env("LD_LIBRARY_PATH", libtorch.join("lib")).current_dir(crate::project::root());
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
