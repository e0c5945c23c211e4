//! `quintet-bench compare`: compares two or more results.

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Args;

use crate::{
    analysis::compare::Run,
    cli::{fail_on::FailOnArgs, output::write_stdout, report::read},
    model::link::LinkSpec,
    report::compare::{markdown, slower_gpu},
    study::{hypotheses::across_gpus, import::Results},
};

/// Flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareCommand {
    /// What is compared.
    #[command(flatten)]
    pub args: CompareArgs,
    /// Conditions that fail the command. They are judged by each file but the first, which is what the others are
    /// compared with.
    #[command(flatten)]
    pub fail_on: FailOnArgs,
}

/// What `compare` compares.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Results to compare: report.json of `run`, or the study's raw JSON. Ratios are relative to the first.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    pub files: Vec<PathBuf>,
    /// Price of each file's server in dollars per hour, in the order of the files.
    #[arg(long, value_name = "X,Y", value_delimiter = ',', value_parser = price)]
    pub price_per_hour: Vec<f64>,
    /// Link of each file's run, in the order of the files; not needed for runs over an emulated link.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,...")]
    pub link: Vec<LinkSpec>,
}

fn price(text: &str) -> Result<f64, String> {
    let price = text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("`{text}` is not a price: use dollars per hour, e.g. 0.89"))
}

/// Compares the files, and judges the conditions by each but the first.
///
/// # Errors
/// As [`compare`].
pub fn command(command: &CompareCommand) -> anyhow::Result<ExitCode> {
    let CompareCommand { args, fail_on } = command;
    write_stdout(&compare(args)?)?;
    let mut status = 0;
    for file in args.files.iter().skip(1).filter(|_| !fail_on.fail_on.is_empty()) {
        status = fail_on.judge(file)?.unwrap_or(status);
    }
    Ok(ExitCode::from(status))
}

/// Reads the files and compares them.
///
/// # Errors
/// When a file holds no results, or the number of prices or links differs from the number of files.
pub fn compare(args: &CompareArgs) -> anyhow::Result<String> {
    let files = args.files.len();
    for (flag, given) in [("--price-per-hour", args.price_per_hour.len()), ("--link", args.link.len())] {
        ensure!(given == 0 || given == files, "{flag} needs a value for each of the {files} files; {given} are given");
    }
    let (mut runs, mut reports) = (Vec::with_capacity(files), Vec::new());
    for (i, file) in args.files.iter().enumerate() {
        let results = read(file)?;
        let mut summary = results.summary();
        summary.link = args.link.get(i).copied().or(summary.link);
        runs.push(Run { summary, price_per_hour: args.price_per_hour.get(i).copied() });
        if let Results::Report(name, report) = results {
            reports.push((name, report));
        }
    }
    // Intervals need the first run, which the others are compared with, and the samples beside each report.
    let first_is_there = reports.first().is_some_and(|(name, _)| *name == runs[0].summary.name);
    let reports: Vec<_> = reports.iter().map(|(name, report)| (name.as_str(), &**report)).collect();
    let mut text = markdown(&runs, if first_is_there { &reports } else { &[] });
    if let Some(((_, first), others)) = reports.split_first() {
        text.extend(others.iter().map(|(name, other)| slower_gpu(name, &across_gpus(first, other))));
    }
    Ok(text)
}
