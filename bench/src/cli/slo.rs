//! `quintet-bench slo`: finds the highest rate at which p99 stays within a bound.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        lane_args::LaneArgs,
        limit_args::LimitArgs,
        load_args::{LoadArgs, check_transports},
        numbers::counts,
        output::write_stdout,
        progress::Terminal,
        setup::{emulate, payload, stop_at_ctrl_c},
    },
    model::{
        arrivals::{Arrivals, Rate},
        duration::parse_duration,
        settings::Settings,
        slo::Goal,
    },
    report::slo,
    run::{
        plan::Plan,
        setup::{Run, Stop},
    },
};

/// Flags of `slo`.
#[derive(Debug, Args)]
pub struct SloArgs {
    /// Bound on p99 latency, such as 50ms.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub p99: Duration,
    /// When requests arrive: poisson (as from many independent users) or constant (at equal intervals).
    #[arg(long, value_name = "ARRIVALS", value_enum, default_value = "poisson")]
    pub arrivals: Spacing,
    /// First rate to try, in requests per second.
    #[arg(long, value_name = "RATE", default_value = "10")]
    pub start_rate: Rate,
    /// Highest rate to try, in requests per second.
    #[arg(long, value_name = "RATE", default_value = "10000")]
    pub max_rate: Rate,
    /// Maximum number of rates to probe for each lane.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = counts(100))]
    pub probes: u16,
    /// Longest measured time of a probe. It lasts until it has the 662 requests that a verdict on p99 needs, but no longer
    /// than this; with fewer requests the rate is undecided.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub longest_window: Duration,
    /// The lanes.
    #[command(flatten)]
    pub lanes: LaneArgs,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Limits of the client.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Folder for results; each search makes a new folder in it.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
}

/// When the requests of a probe arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spacing {
    /// With exponential gaps.
    Poisson,
    /// At equal intervals.
    Constant,
}

/// Searches and prints the rates found.
///
/// # Errors
/// As `run`.
pub async fn slo(args: &SloArgs) -> anyhow::Result<ExitCode> {
    let mut settings = Settings { loads: Vec::new(), ..args.load.settings(&args.lanes, &args.limits) };
    check_transports(&settings)?;
    let (goal, mut targets) = (
        Goal {
            p99: args.p99,
            arrivals: match args.arrivals {
                Spacing::Poisson => Arrivals::Poisson,
                Spacing::Constant => Arrivals::Constant,
            },
            start: args.start_rate,
            most: args.max_rate,
            probes: args.probes.into(),
            longest: args.longest_window,
        },
        args.lanes.targets()?,
    );
    let taken = args.load.data.apply(&mut settings, &mut targets).await?;
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(&settings, args.load.images.as_deref(), &taken.preparation, 1)?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Terminal::on_stderr(&Plan::new(&settings, &lanes), &lanes, None);
    let stop = Stop::from(CancellationToken::new());
    tokio::spawn(stop_at_ctrl_c(stop.clone()));
    let output = args.output.clone();
    let run = Run { settings, targets, payload, output, progress: &progress, resume: None, stop };
    let (report, answers) = run.search(goal).await?;
    write_stdout(&slo::table(&answers, goal))?;
    let found = answers.iter().all(|answer| answer.highest_per_s.is_some());
    Ok(ExitCode::from(if report.interrupted { 130 } else { u8::from(!found) }))
}
