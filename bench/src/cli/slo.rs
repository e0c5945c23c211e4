//! `quintet-bench slo`: the highest rate that keeps a bound on p99.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        args::{RunArgs, counts, write_stdout},
        progress::Progress,
        run::{emulate, payload, stop_at_ctrl_c},
    },
    model::{arrivals::Rate, duration::parse_duration, settings::Settings},
    run::{
        plan::Plan,
        session::{Run, Stop},
        slo::{self, Goal},
    },
};

/// Flags of `slo`.
#[derive(Debug, Args)]
pub struct SloArgs {
    /// Bound on p99.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub p99: Duration,
    /// First rate tried, in requests per second.
    #[arg(long, value_name = "RATE", default_value = "10")]
    pub start_rate: Rate,
    /// Highest rate tried.
    #[arg(long, value_name = "RATE", default_value = "10000")]
    pub max_rate: Rate,
    /// Most windows for each lane.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = counts(100))]
    pub probes: u16,
    /// The lanes and their windows.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Searches and prints what was found.
///
/// # Errors
/// As `run`.
pub async fn slo(args: &SloArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings { loads: Vec::new(), ..args.run.settings() };
    let (goal, mut targets) = (
        Goal { p99: args.p99, start: args.start_rate, most: args.max_rate, probes: args.probes.into() },
        args.run.targets()?,
    );
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(&args.run, 1)?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Progress::on_stderr(&Plan::new(&settings, &lanes), &lanes);
    let stop = Stop::from(CancellationToken::new());
    tokio::spawn(stop_at_ctrl_c(stop.clone()));
    let output = args.run.output.clone();
    let run = Run { settings, targets, payload, output, progress: &progress, resume: None, stop };
    let (report, answers) = run.search(goal).await?;
    write_stdout(&slo::table(&answers, goal))?;
    let found = answers.iter().all(|answer| answer.highest_per_s.is_some());
    Ok(ExitCode::from(if report.interrupted { 130 } else { u8::from(!found) }))
}
