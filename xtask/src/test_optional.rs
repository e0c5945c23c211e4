//! `cargo xtask test-optional`: tests what is only in builds with optional features, libtorch and object stores.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{process::command, setup};

/// The features of the build, and the names that select their tests.
const FEATURES: &str = "quintet-server/torch,quintet-server/object-stores";
const TESTS: [&str; 3] = ["torch", "object_stores", "repository::remote"];

/// Installs libtorch and a local S3 server, and runs the tests that need them. Exit status: 0 if they pass.
///
/// # Errors
/// When something cannot be installed or cargo cannot be started.
pub(crate) fn test_optional() -> anyhow::Result<ExitCode> {
    setup::setup(true)?;
    setup::object_stores()?;
    let libtorch = setup::libtorch()?;
    let mut command = command("cargo");
    // The whole workspace, as in `make test`, so that its build is reused.
    command.args(["test", "--workspace", "--features", FEATURES, "--lib", "--test", "suite", "--"]).args(TESTS);
    // The build reads LIBTORCH; the built programs need LD_LIBRARY_PATH.
    command.env("LIBTORCH", &libtorch).env("LD_LIBRARY_PATH", libtorch.join("lib")).current_dir(crate::project::root());
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
