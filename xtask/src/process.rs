//! Running other programs: their output is shown, their failure is an error that names them.

use std::{
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, bail};

/// Runs a command that must succeed, in the project's folder. Its stdout goes to stderr, where progress goes.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> anyhow::Result<()> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::project::root()).stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("`{} {}` failed: {status}", program.display(), arguments.join(" "));
    }
    Ok(())
}

/// Builds the project's programs as the tests use them. Of the whole workspace and with its tests, as `make test` does it: a
/// part of it would have the same dependencies compiled again, with other features.
pub(crate) fn build_programs() -> anyhow::Result<()> {
    run("cargo", &["build", "--workspace", "--bins", "--tests"])
}

/// Builds the programs that users have.
pub(crate) fn build_release() -> anyhow::Result<()> {
    run("cargo", &["build", "--release", "-p", "quintet-server", "-p", "quintet-bench", "-p", "quintet-models"])
}

/// A program's exit status as this one's.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
