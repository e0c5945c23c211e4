//! Writes a command's result to stdout.

use std::process::ExitCode;

use anyhow::Context as _;

/// Writes a text to stdout.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_stdout(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that stops early (`| head`) is not a failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// Writes a command's result to stdout.
///
/// # Errors
/// The command's error, or when stdout cannot be written.
pub(crate) fn show(text: anyhow::Result<String>) -> anyhow::Result<ExitCode> {
    write_stdout(&text?).map(|()| ExitCode::SUCCESS)
}
