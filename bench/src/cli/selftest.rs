//! `quintet-bench selftest`: checks that this program measures correctly.

use std::process::ExitCode;

use clap::Args;

use crate::{
    cli::{numbers::counts, output::write_stdout},
    selftest,
};

/// Flags of `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Run only the checks in virtual time.
    #[arg(long)]
    pub fast: bool,
    /// Number of trials of each statistical check.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = counts(10_000))]
    pub trials: u16,
    /// Seed for all random values.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Runs the checks and prints their results.
///
/// # Errors
/// When no server can be started on loopback.
pub async fn selftest(args: &SelftestArgs) -> anyhow::Result<ExitCode> {
    let (trials, seed) = (usize::from(args.trials), args.seed);
    let mut proofs = tokio::task::spawn_blocking(move || selftest::fast(trials, seed)).await?;
    if !args.fast {
        eprintln!("checks in virtual time are done; checks on real sockets take about a minute");
        proofs.extend(selftest::real(seed).await?);
    }
    write_stdout(&selftest::table(&proofs))?;
    Ok(ExitCode::from(u8::from(proofs.iter().any(|proof| !proof.held))))
}
