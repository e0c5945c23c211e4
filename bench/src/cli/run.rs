//! `quintet-bench run`: one run, from its flags to its exit status.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use quintet_preprocess::{DEFAULT_MAX_PIXELS, ImageError, to_tensor};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        args::{Cli, Command, RunArgs, RunCommand, write_stdout},
        progress::{ASSUMED_IMAGE, Progress, words},
    },
    client::{
        payload::{self, Payload},
        target::Target,
    },
    link::{self, proxy::Proxy},
    model::{report::Report, settings::Settings, transport::Transport},
    report::{exporter::Exporter as _, markdown::Markdown},
    run::{
        journal::Unfinished,
        plan::Plan,
        session::{Run, Stop},
    },
};

/// Measures what the flags say and prints the tables.
///
/// # Errors
/// When nothing can be measured; failed requests are in the report.
pub async fn run(command: &RunCommand) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &command.resume {
        let unfinished = Unfinished::read(folder)?;
        return measure(&flags_of(&unfinished)?, Some(unfinished)).await;
    }
    if command.dry_run {
        let (plan, targets) = plan(&command.args)?;
        return write_stdout(&describe_plan(&plan, &targets)).map(|()| ExitCode::SUCCESS);
    }
    measure(&command.args, None).await
}

/// The flags that a run was started with.
fn flags_of(unfinished: &Unfinished) -> anyhow::Result<RunArgs> {
    let line = &unfinished.head.environment.command_line;
    match Cli::try_parse_from(line).map(|cli| cli.command) {
        Ok(Command::Run(run)) => Ok(run.args),
        _ => bail!("cannot resume: `{}` is no command line of this version's `run`", line.join(" ")),
    }
}

/// The plan, and whether it can be carried out.
fn plan(args: &RunArgs) -> anyhow::Result<(Plan, Vec<Target>)> {
    let (settings, targets) = (args.settings(), args.targets()?);
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let plan = Plan::new(&settings, &lanes);
    if plan.stages.is_empty() {
        bail!("nothing to measure: both --batches and --concurrency are empty");
    }
    if settings.transports.contains(&Transport::Uds) {
        match (&settings.uds_dir, settings.link) {
            (None, _) => bail!("--transport uds: where are the sockets? Give the server's --uds-dir with --uds-dir"),
            (_, Some(_)) => bail!("--transport uds: an emulated link (--link) is in front of TCP addresses only"),
            _ => {}
        }
    }
    for (rate, time) in plan.open_windows() {
        if rate.get() * time.as_secs_f64() > settings.limits.max_window_requests as f64 {
            bail!(
                "{rate} for {} are more requests than --max-window-requests; raise it or shorten --duration",
                words(time)
            );
        }
    }
    Ok((plan, targets))
}

async fn measure(args: &RunArgs, resume: Option<Unfinished>) -> anyhow::Result<ExitCode> {
    let ((plan, mut targets), settings) = (plan(args)?, args.settings());
    let lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
    let payload = payload(args, plan.largest_batch())?;
    let _proxies = emulate(&settings, &mut targets).await?;
    let progress = Progress::on_stderr(&plan, &lanes);
    let stop = Stop::from(CancellationToken::new());
    tokio::spawn(stop_at_ctrl_c(stop.clone()));
    let output = args.output.clone();
    let outcome = Run { settings, targets, payload, output, progress: &progress, resume, stop }.run().await?;
    write_stdout(&Markdown.export(&outcome.report)?)?;
    eprintln!("report: {}", outcome.folder.join("report.json").display());
    if outcome.report.interrupted {
        eprintln!("to go on: quintet-bench run --resume {}", outcome.folder.display());
    }
    Ok(ExitCode::from(exit_status(&outcome.report)))
}

/// Puts the link that is asked for in front of the lanes.
pub(crate) async fn emulate(settings: &Settings, targets: &mut [Target]) -> anyhow::Result<Vec<Proxy>> {
    match settings.link {
        Some(link) => link::between(link, settings.seed, targets).await.context("--link"),
        None => Ok(Vec::new()),
    }
}

/// The photographs to send, in batches up to the largest.
pub(crate) fn payload(args: &RunArgs, largest_batch: usize) -> anyhow::Result<Payload> {
    let photographs = match &args.images {
        Some(folder) => payload::from_folder(folder)?,
        None => payload::compiled_in(),
    };
    Ok(Payload::new(&photographs, largest_batch, preprocess)?)
}

/// The exit status that a report deserves.
pub fn exit_status(report: &Report) -> u8 {
    if report.interrupted { 130 } else { u8::from(report.failed() > 0 || !report.outputs.missing.is_empty()) }
}

/// The client's preprocessing: the same code that the server's jpeg lane runs.
fn preprocess(encoded: &[u8], tensor: &mut [f32]) -> Result<(), ImageError> {
    to_tensor(encoded, DEFAULT_MAX_PIXELS, tensor)
}

/// The first Ctrl-C ends the run after the current block, the second at once; a third does not wait for the report.
pub(crate) async fn stop_at_ctrl_c(stop: Stop) {
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("\nstopping after this block; the report keeps what was measured (Ctrl-C again to stop at once)");
        stop.soon.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.now.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
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
            words(effort.windows)
        );
    }
    let _ = writeln!(text, "\nAbout {} if one image takes {} ms.", words(time), ASSUMED_IMAGE.as_millis());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_told_in_words() {
        let command = Cli::try_parse_from(["quintet-bench", "run", "--skip", "onnx"]).unwrap().command;
        let Command::Run(run) = command else { panic!("not `run`") };
        let (plan, targets) = plan(&run.args).unwrap();
        insta::assert_snapshot!(describe_plan(&plan, &targets));
    }
}
