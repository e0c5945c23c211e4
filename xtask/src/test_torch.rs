//! The jpeg lane on libtorch: sets libtorch up, builds the server with it and compares the lanes.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::setup;

/// Runs the tests that need libtorch.
///
/// # Errors
/// When libtorch cannot be set up or cargo cannot be started.
pub(crate) fn test_torch() -> anyhow::Result<ExitCode> {
    setup::setup(true)?;
    let libtorch = setup::libtorch()?;
    let mut command = Command::new("cargo");
    // The whole workspace, as `make test` has it: what was built for that serves here.
    command.args(["test", "--workspace", "--features", "quintet-server/torch", "--test", "suite", "--", "torch"]);
    // One for the build, one for the programs that it builds.
    command.env("LIBTORCH", &libtorch).env("LD_LIBRARY_PATH", libtorch.join("lib")).current_dir(crate::project::root());
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
