//! Runs other programs: shows their output, and reports a failure with the command.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, bail};

/// A command without the variables by which `cargo xtask` names its package. A cargo that it starts would run the build scripts
/// again that look at them, such as ring's, and compile everything above again, each time it follows a cargo started otherwise.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let of_package = |name: &OsString| {
        name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_package(name)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command in the project's folder. Its stdout goes to stderr, as progress does.
///
/// # Errors
/// When the command cannot be started or fails.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> anyhow::Result<()> {
    let program = program.as_ref();
    let mut command = command(program);
    command.args(arguments).current_dir(crate::project::root()).stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("`{} {}` failed: {status}", program.display(), arguments.join(" "));
    }
    Ok(())
}

/// Builds the project's programs and examples for tests, with the whole workspace and its tests as `make test` does: building a part
/// of the workspace would compile the dependencies again, with different features.
pub(crate) fn build_programs() -> anyhow::Result<()> {
    run("cargo", &["build", "--workspace", "--bins", "--examples", "--tests"])
}

/// Builds the project's programs with the release profile.
pub(crate) fn build_release() -> anyhow::Result<()> {
    run("cargo", &["build", "--release", "-p", "quintet-server", "-p", "quintet-bench", "-p", "quintet-models"])
}

/// Converts a program's exit status to this program's; 1 if a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
