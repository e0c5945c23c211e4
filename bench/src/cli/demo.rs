//! `quintet-bench demo`: the lanes on this machine and over an emulated link, and one answer.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    cli::{lane_args::LaneArgs, output::write_stdout},
    model::report::Report,
    report::answers::answers,
};

/// The flag that this command has and `run` has not.
const QUICK: &str = "--quick";

/// What both runs measure: single images in each form that differs in size, one after the other.
const BOTH: [&str; 3] = ["--batches=1", "--concurrency", "--payload=jpeg,fp32"];
/// A round trip across a continent, and an uplink as in an office or a home.
const LINK: [&str; 2] = ["--link=rtt=35ms,up=20mbit", "--connection=reused,fresh"];

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The lanes.
    #[command(flatten)]
    pub lanes: LaneArgs,
    /// Send a few requests of each kind only: it shows that everything works, and not what is faster.
    #[arg(long)]
    pub quick: bool,
    /// Folder for results; each of the two runs makes a new folder in it.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
}

/// Measures twice and prints the answer. Returns the worse exit status of the two runs.
///
/// # Errors
/// When a run cannot measure, or its report cannot be read.
pub async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    args.lanes.targets()?;
    // Each run is a process with a command line of its own, which its report keeps, so that it can be repeated and resumed.
    let given: Vec<OsString> = flags_of_run(std::env::args_os().collect());
    let sizes = |many, few| if args.quick { few } else { many };
    let few = ["--iterations=4", "--blocks=2", "--warmup=1"];
    let loopback = sizes(["--iterations=16", "--blocks=8", "--warmup=2"], few);
    let over_link = sizes(["--iterations=8", "--blocks=4", "--warmup=2"], few);
    let (first, worse) = run(&[&loopback[..], &BOTH], &given, &args.output).await?;
    if worse > 1 {
        return Ok(ExitCode::from(worse));
    }
    let (second, status) = run(&[&over_link[..], &BOTH, &LINK], &given, &args.output).await?;
    if status > 1 {
        return Ok(ExitCode::from(status));
    }
    write_stdout(&answers(&[Report::read(&first)?, Report::read(&second)?]))?;
    eprintln!("reports: {} and {}", first.display(), second.display());
    if args.lanes.against.is_empty() {
        eprintln!("beside stock Triton (docker compose --profile triton up): quintet-bench demo --against triton");
    }
    Ok(ExitCode::from(worse.max(status)))
}

/// The flags behind `demo` that `run` has, too.
fn flags_of_run(line: Vec<OsString>) -> Vec<OsString> {
    line.into_iter().skip_while(|word| word != "demo").skip(1).filter(|word| word != QUICK).collect()
}

/// Measures in a process of its own; returns the run's folder and its exit status.
async fn run(own: &[&[&str]], given: &[OsString], output: &Path) -> anyhow::Result<(PathBuf, u8)> {
    let before = folders(output);
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.arg("run").args(own.iter().copied().flatten()).args(given);
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    eprintln!("quintet-bench {}", words.join(" "));
    // Its tables are in its report.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut ended = tokio::task::spawn_blocking(move || command.status());
    let status = loop {
        tokio::select! {
            status = &mut ended => break status?.context("cannot start the run")?,
            // The run gets Ctrl-C from the terminal as well, and ends in its own way.
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    match folders(output).difference(&before).max() {
        Some(folder) => Ok((folder.clone(), status)),
        None if status > 1 => Ok((PathBuf::new(), status)),
        None => bail!("the run left no folder in {}", output.display()),
    }
}

/// What is in a folder; nothing if it is not there.
fn folders(parent: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runs_get_the_flags_that_run_has() {
        let line = ["/bin/quintet-bench", "demo", "--model", "a", "--quick", "--skip=trt"].map(OsString::from).to_vec();
        assert_eq!(flags_of_run(line), ["--model", "a", "--skip=trt"]);
    }
}
