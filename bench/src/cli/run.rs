//! `quintet-bench run`: measures the lanes, from flags to exit status.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        fail_on::FailOnArgs,
        lane_args::LaneArgs,
        limit_args::LimitArgs,
        load_args::{LoadArgs, check_transports},
        output::write_stdout,
        plan_args::PlanArgs,
        progress::{ASSUMED_IMAGE, Terminal, duration_text},
        scenario::{self, Lanes, ScenarioArgs},
        setup::{emulate, payload, stop_at_ctrl_c},
    },
    client::target::Target,
    model::{hypothesis::Hypothesis, report::Report, settings::Settings},
    report::{answer::answer, exporter::Exporter as _, markdown::Markdown},
    run::{
        journal::Unfinished,
        plan::Plan,
        setup::{Run, Stop},
    },
    study::hypotheses::to_decide,
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
    /// A scenario of MLPerf in place of the plan.
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Limits of the client.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Folder for results; each run makes a new folder in it.
    #[arg(long, value_name = "DIR", default_value = "results", help_heading = "Output")]
    pub output: PathBuf,
    /// Print all tables on a terminal too, after the answer in a few lines. They are always in the files, and in a pipe.
    #[arg(long, help_heading = "Output")]
    pub tables: bool,
    /// Conditions that fail the run.
    #[command(flatten)]
    pub fail_on: FailOnArgs,
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
    let (args, settings) = (&command.args, command.args.settings());
    if let Some(plan) = args.scenario.plan(&settings) {
        check_transports(&settings)?;
        let lanes = Lanes { targets: args.lanes.targets()?, load: &args.load, output: args.output.clone() };
        return scenario::measure(plan, settings, lanes, args.tables).await;
    }
    if command.dry_run {
        let settings = command.args.settings();
        let (plan, targets) = plan(&command.args, &settings, command.args.lanes.targets()?)?;
        let until = command.args.plan.until_decided.map(|most| {
            let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
            (to_decide(&settings, &lanes).len(), most)
        });
        return write_stdout(&describe_plan(&plan, &targets, until)).map(|()| ExitCode::SUCCESS);
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
pub(super) fn plan(args: &RunArgs, settings: &Settings, targets: Vec<Target>) -> anyhow::Result<(Plan, Vec<Target>)> {
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let plan = Plan::new(settings, &lanes);
    if plan.stages.is_empty() {
        bail!("nothing to measure: both --batches and --concurrency are empty");
    }
    check_transports(settings)?;
    args.fail_on.check(&plan, !settings.hypotheses.is_empty())?;
    if settings.until_decided.is_some() {
        check_claims(&plan, &to_decide(settings, &lanes))?;
    }
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

/// Checks that the claims of a run until decided are about what the plan measures.
fn check_claims(plan: &Plan, claims: &[Hypothesis]) -> anyhow::Result<()> {
    if claims.is_empty() {
        bail!("--until-decided has nothing to decide: give a claim about two lanes with --hypothesis");
    }
    for claim in claims {
        let Some(stage) = plan.stages.iter().find(|stage| stage.load == claim.load) else {
            bail!("`{claim}` is about a load that is not measured; add it with --batches or --concurrency");
        };
        for lane in [claim.left, claim.right] {
            if !stage.blocks.iter().any(|block| block.variant.lane == lane) {
                bail!("`{claim}` is about {lane}, which is not measured");
            }
        }
    }
    Ok(())
}

async fn measure(args: &RunArgs, resume: Option<Unfinished>) -> anyhow::Result<ExitCode> {
    let (mut settings, mut targets) = (args.settings(), args.lanes.targets()?);
    let taken = args.load.data.apply(&mut settings, &mut targets).await?;
    if let (None, Some(largest)) = (&args.plan.batches, taken.largest_batch) {
        settings.batches.retain(|&batch| batch <= largest);
    }
    let (plan, mut targets) = plan(args, &settings, targets)?;
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(&settings, args.load.images.as_deref(), &taken.preparation, plan.largest_batch())?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Terminal::on_stderr(&plan, &lanes, settings.until_decided.map(|until| until.most));
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
    let failed = args.fail_on.status("", &outcome.report.warnings, Some(&outcome.report));
    let status = exit_status(&outcome.report);
    Ok(ExitCode::from(if outcome.report.interrupted { status } else { failed.unwrap_or(status) }))
}

/// The exit status for a report, without conditions.
pub fn exit_status(report: &Report) -> u8 {
    if report.interrupted { 130 } else { u8::from(report.failed() > 0 || !report.outputs.missing.is_empty()) }
}

/// `until` has the number of claims and the longest time of a run until decided.
fn describe_plan(plan: &Plan, targets: &[Target], until: Option<(usize, Duration)>) -> String {
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
    if let Some((claims, most)) = until {
        let most = duration_text(most);
        let _ = writeln!(text, "\nRepeated until the claims are decided ({claims}), in at most {most}.");
        return text;
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
        let (plan, targets) = plan(&run.args, &run.args.settings(), run.args.lanes.targets().unwrap()).unwrap();
        insta::assert_snapshot!(describe_plan(&plan, &targets, None));
        let until = describe_plan(&plan, &targets, Some((3, Duration::from_secs(20))));
        assert!(until.ends_with("\nRepeated until the claims are decided (3), in at most 20 s.\n"), "{until}");
    }
}
