//! `quintet-bench run --scenario`: a scenario of MLPerf, from flags to exit status.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        load_args::LoadArgs,
        output::write_stdout,
        progress::Terminal,
        setup::{emulate, payload, stop_at_ctrl_c},
    },
    client::target::Target,
    model::{
        arrivals::Rate,
        duration::parse_duration,
        report::Report,
        scenario::{SERVER_BOUND, Scenario},
        settings::Settings,
    },
    report::{
        exporter::Exporter as _,
        markdown::{Markdown, with_note},
        scenario::table,
    },
    run::{
        plan::Plan,
        scenario::ScenarioPlan,
        setup::{Run, Stop},
    },
};

/// Flags of a scenario.
#[derive(Debug, Args)]
pub struct ScenarioArgs {
    /// Run a scenario of MLPerf Inference in place of the serial and concurrent parts, lane by lane, and state for each
    /// lane whether the result is VALID or INVALID by MLPerf's rules and why. singlestream: one image after another, p90.
    /// multistream: queries of 8 images, p99. offline: as many images per second as possible, by the most workers of
    /// --concurrency with the largest of --concurrent-batches. server: random arrivals, the most queries per second with p99
    /// within --bound.
    #[arg(long, value_enum, help_heading = "Scenario", hide_possible_values = true,
          value_name = "singlestream|multistream|offline|server",
          conflicts_with_all = ["batches", "iterations", "load", "rate", "blocks", "hypothesis", "until_decided", "fail_on", "dry_run"])]
    pub scenario: Option<Scenario>,
    /// Shortest measured time of each lane in a scenario. A shorter run than MLPerf's 600s is INVALID for that reason.
    #[arg(long, value_name = "TIME", default_value = "600s", help_heading = "Scenario", requires = "scenario",
          value_parser = parse_duration)]
    pub min_duration: Duration,
    /// Minimum number of queries of each lane in a scenario, images for offline [singlestream: 64, multistream and server: 662,
    /// offline: 24576, as MLPerf's rules ask]. With fewer the result is INVALID for that reason.
    #[arg(long, value_name = "N", help_heading = "Scenario", requires = "scenario")]
    pub min_queries: Option<u32>,
    /// Rate of the scenario server. Without it the highest rate within the bound is searched for on each lane first.
    #[arg(long, value_name = "RATE", help_heading = "Scenario", requires = "scenario")]
    pub target_qps: Option<Rate>,
}

impl ScenarioArgs {
    /// The plan of the scenario, if one is asked for; `settings` have the bound, the workers and the batch sizes.
    pub fn plan(&self, settings: &Settings) -> Option<ScenarioPlan> {
        let scenario = self.scenario?;
        let bound = settings.bound_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
        let largest = |counts: &[usize]| counts.iter().copied().max().unwrap_or(1);
        Some(ScenarioPlan {
            scenario,
            min_duration: self.min_duration,
            min_queries: self.min_queries.map_or(scenario.least_queries(), u64::from),
            bound: bound.unwrap_or(SERVER_BOUND),
            target_qps: self.target_qps,
            workers: largest(&settings.concurrency),
            batch: largest(&settings.concurrent_batches),
        })
    }
}

/// What a scenario runs on.
pub struct Lanes<'a> {
    /// The lanes.
    pub targets: Vec<Target>,
    /// What is sent to them.
    pub load: &'a LoadArgs,
    /// Folder for results.
    pub output: PathBuf,
}

/// Runs a scenario and prints its table: on a terminal that alone unless `tables`, else the whole report.
///
/// # Errors
/// When nothing can be measured.
pub async fn measure(
    plan: ScenarioPlan,
    settings: Settings,
    lanes: Lanes<'_>,
    tables: bool,
) -> anyhow::Result<ExitCode> {
    if let Some(rate) = plan.target_qps {
        let queries = rate.get() * (plan.server_time(rate) + settings.ramp).as_secs_f64();
        if queries > settings.limits.max_window_requests as f64 {
            bail!(
                "--target-qps: {rate} for the time of the scenario are {queries:.0} requests; raise --max-window-requests"
            );
        }
    }
    let (workers, batch) = (plan.in_flight(), plan.samples());
    let mut settings = Settings {
        batches: Vec::new(),
        concurrency: if plan.scenario == Scenario::Server { Vec::new() } else { vec![workers] },
        concurrent_batches: vec![batch],
        loads: Vec::new(),
        ..settings
    };
    let Lanes { mut targets, load, output } = lanes;
    let taken = load.data.apply(&mut settings, &mut targets).await?;
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(&settings, load.images.as_deref(), &taken.preparation, batch)?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Terminal::on_stderr(&Plan::new(&settings, &lanes), &lanes, None);
    let stop = Stop::from(CancellationToken::new());
    tokio::spawn(stop_at_ctrl_c(stop.clone()));
    let run = Run { settings, targets, payload, output, progress: &progress, resume: None, stop };
    let outcome = run.scenario(plan).await?;
    // A pipe gets the tables, as a file would.
    match &outcome.report.scenario {
        Some(results) if std::io::stdout().is_terminal() && !tables => write_stdout(&with_note(&table(results)))?,
        _ => write_stdout(&Markdown.export(&outcome.report)?)?,
    }
    eprintln!("report: {}", outcome.folder.join("report.json").display());
    Ok(ExitCode::from(exit_status(&outcome.report)))
}

fn exit_status(report: &Report) -> u8 {
    let valid =
        |report: &Report| report.scenario.as_ref().is_some_and(|s| s.results.iter().all(|r| r.invalid.is_empty()));
    if report.interrupted { 130 } else { u8::from(!valid(report) || !report.outputs.missing.is_empty()) }
}
