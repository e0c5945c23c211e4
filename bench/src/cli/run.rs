//! `quintet-bench run`: measures the lanes, from flags to exit status.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        lane_args::LaneArgs,
        limit_args::LimitArgs,
        load_args::{LoadArgs, check_transports},
        output::write_stdout,
        plan_args::PlanArgs,
        progress::{ASSUMED_IMAGE, Terminal, duration_text},
        setup::{emulate, payload, stop_at_ctrl_c},
    },
    client::target::Target,
    model::{report::Report, settings::Settings},
    report::{answer::answer, exporter::Exporter as _, markdown::Markdown},
    run::{
        journal::Unfinished,
        plan::Plan,
        setup::{Run, Stop},
    },
};

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunCommand {
    /// What to measure.
    #[command(flatten)]
    pub args: RunArgs,
    /// Continue the stopped run in this folder, with the flags it was started with. Refused if the lanes or this machine
    /// have changed.
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub resume: Option<PathBuf>,
    /// Print the plan and an estimate of its duration; send nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// What `run` measures.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The lanes.
    #[command(flatten)]
    pub lanes: LaneArgs,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Sizes and claims.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Limits of the client.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Folder for results; each run makes a new folder in it.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
    /// Print all tables on a terminal too, after the answer in a few lines. They are always in the files, and in a pipe.
    #[arg(long)]
    pub tables: bool,
}

impl RunArgs {
    /// The settings: the preset, overridden by the flags.
    pub fn settings(&self) -> Settings {
        self.plan.apply(self.load.settings(&self.lanes, &self.limits))
    }
}

/// Measures and prints the tables.
///
/// # Errors
/// When nothing can be measured; failed requests are in the report.
pub async fn run(command: &RunCommand) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &command.resume {
        let unfinished = Unfinished::read(folder)?;
        return measure(&flags_of(&unfinished)?, Some(unfinished)).await;
    }
    if command.dry_run {
        let (plan, targets) = plan(&command.args.settings(), command.args.lanes.targets()?)?;
        return write_stdout(&describe_plan(&plan, &targets)).map(|()| ExitCode::SUCCESS);
    }
    measure(&command.args, None).await
}

/// A command line of `run`, as the journal of a run keeps it.
#[derive(Parser)]
struct RunLine {
    #[command(subcommand)]
    command: OnlyRun,
}

#[derive(Subcommand)]
enum OnlyRun {
    #[command(args_override_self = true)]
    Run(Box<RunCommand>),
}

/// The flags that a run was started with.
fn flags_of(unfinished: &Unfinished) -> anyhow::Result<RunArgs> {
    let line = &unfinished.head.environment.command_line;
    match RunLine::try_parse_from(line) {
        Ok(RunLine { command: OnlyRun::Run(run) }) => Ok(run.args),
        Err(_) => bail!(
            "cannot resume: this version does not accept the command line of the stopped run, `{}`",
            line.join(" ")
        ),
    }
}

/// The plan and the lanes, after checking that the plan can be carried out.
fn plan(settings: &Settings, targets: Vec<Target>) -> anyhow::Result<(Plan, Vec<Target>)> {
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let plan = Plan::new(settings, &lanes);
    if plan.stages.is_empty() {
        bail!("nothing to measure: both --batches and --concurrency are empty");
    }
    check_transports(settings)?;
    for (rate, time) in plan.open_windows() {
        if rate.get() * time.as_secs_f64() > settings.limits.max_window_requests as f64 {
            bail!(
                "{rate} for {} are more requests than --max-window-requests; raise it or shorten --duration",
                duration_text(time)
            );
        }
    }
    Ok((plan, targets))
}

async fn measure(args: &RunArgs, resume: Option<Unfinished>) -> anyhow::Result<ExitCode> {
    let (mut settings, mut targets) = (args.settings(), args.lanes.targets()?);
    let largest = args.load.data.apply(&mut settings, &mut targets).await?;
    if let (None, Some(largest)) = (&args.plan.batches, largest) {
        settings.batches.retain(|&batch| batch <= largest);
    }
    let (plan, mut targets) = plan(&settings, targets)?;
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(&settings, args.load.images.as_deref(), plan.largest_batch())?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Terminal::on_stderr(&plan, &lanes);
    let stop = Stop::from(CancellationToken::new());
    tokio::spawn(stop_at_ctrl_c(stop.clone()));
    let output = args.output.clone();
    let outcome = Run { settings, targets, payload, output, progress: &progress, resume, stop }.run().await?;
    // A pipe gets the tables, as a file would.
    let terminal = std::io::stdout().is_terminal();
    if terminal {
        write_stdout(&answer(&outcome.report))?;
    }
    if args.tables || !terminal {
        write_stdout(&Markdown.export(&outcome.report)?)?;
    }
    eprintln!("report: {}", outcome.folder.join("report.json").display());
    if outcome.report.interrupted {
        eprintln!("to continue: quintet-bench run --resume {}", outcome.folder.display());
    }
    Ok(ExitCode::from(exit_status(&outcome.report)))
}

/// The exit status for a report.
pub fn exit_status(report: &Report) -> u8 {
    if report.interrupted { 130 } else { u8::from(report.failed() > 0 || !report.outputs.missing.is_empty()) }
}

fn describe_plan(plan: &Plan, targets: &[Target]) -> String {
    use std::fmt::Write as _;
    let mut text = "| Lane | Address | Requests | Images | Windows |\n|---|---|---:|---:|---:|\n".to_owned();
    let mut time = Duration::ZERO;
    for target in targets {
        let effort = plan.effort(target.lane);
        time += effort.at(ASSUMED_IMAGE);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            target.lane,
            target.url(),
            effort.requests,
            effort.images,
            duration_text(effort.windows)
        );
    }
    let _ = writeln!(text, "\nAbout {} if one image takes {} ms.", duration_text(time), ASSUMED_IMAGE.as_millis());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_described_as_a_table() {
        let RunLine { command: OnlyRun::Run(run) } =
            RunLine::try_parse_from(["quintet-bench", "run", "--skip", "onnx"]).unwrap();
        let (plan, targets) = plan(&run.args.settings(), run.args.lanes.targets().unwrap()).unwrap();
        insta::assert_snapshot!(describe_plan(&plan, &targets));
    }
}
