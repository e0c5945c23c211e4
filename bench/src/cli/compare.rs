//! `quintet-bench compare`: compares two or more results.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use crate::{
    analysis::compare::Run,
    model::link::LinkSpec,
    report::compare::{markdown, slower_gpu},
    study::{hypotheses::across_gpus, import::Results},
};

/// Flags of `compare`.
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

/// Reads the files and compares them.
///
/// # Errors
/// When a file holds no results, or the number of prices or links differs from the number of files.
pub fn compare(args: &CompareArgs) -> anyhow::Result<String> {
    let files = args.files.len();
    for (flag, given) in [("--price-per-hour", args.price_per_hour.len()), ("--link", args.link.len())] {
        ensure!(given == 0 || given == files, "{flag} needs a value for each of the {files} files; {given} are given");
    }
    let mut runs = Vec::with_capacity(files);
    let mut reports = Vec::with_capacity(files);
    for (i, file) in args.files.iter().enumerate() {
        let results = Results::read(file)?;
        let mut summary = results.summary();
        summary.link = args.link.get(i).copied().or(summary.link);
        runs.push(Run { summary, price_per_hour: args.price_per_hour.get(i).copied() });
        if let Results::Report(name, report) = results {
            reports.push((name, report));
        }
    }
    let mut text = markdown(&runs);
    if let Some(((_, first), others)) = reports.split_first() {
        text.extend(others.iter().map(|(name, other)| slower_gpu(name, &across_gpus(first, other))));
    }
    Ok(text)
}
