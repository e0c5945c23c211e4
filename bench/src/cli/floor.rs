//! `quintet-bench floor`: servers against a bare socket.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{
    cli::output::write_stdout,
    floor::{args::FloorArgs, measure},
};

/// Measures and prints. Threads of its own do the measuring: no task of this runtime gets in between.
///
/// # Errors
/// When a server cannot be reached, or a request fails.
pub async fn floor(args: FloorArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let report = tokio::task::spawn_blocking(move || measure::run(&args)).await.context("the run broke off")??;
    let text = if json { serde_json::to_string_pretty(&report)? + "\n" } else { report.markdown() };
    write_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}
