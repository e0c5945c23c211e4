//! `quintet-bench floor`: compares servers with a bare socket.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{
    cli::output::write_stdout,
    floor::{args::FloorArgs, measure},
};

/// Measures and prints. Separate threads measure, so that tasks of this runtime do not disturb them.
///
/// # Errors
/// When a server cannot be reached, or a request fails.
pub async fn floor(args: FloorArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let report =
        tokio::task::spawn_blocking(move || measure::run(&args)).await.context("the measurement panicked")??;
    let text = if json { serde_json::to_string_pretty(&report)? + "\n" } else { report.markdown() };
    write_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}
