//! `quintet-bench explain`: which resource ends the scaling of each lane.

use std::path::PathBuf;

use clap::Args;

use crate::{
    analysis::scaling::scalings,
    model::report::Report,
    report::scaling::{Explained, text},
};

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Results to explain: folders of `run`, or their report.json. Give runs with different numbers of instances to see
    /// whether more of them help.
    #[arg(value_name = "RESULTS", required = true)]
    pub results: Vec<PathBuf>,
    /// Number of instances of the model for lanes whose server does not state it, in the order of the results.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub instances: Vec<u32>,
}

/// Reads the results and explains them.
///
/// # Errors
/// When a file is not a report.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<String> {
    let reports = args.results.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = args.results.iter().map(|path| path.display().to_string()).collect();
    let explained = |(i, report): (usize, _)| {
        let instances = args.instances.get(i).or(args.instances.last()).copied();
        Explained { name: &names[i], scalings: scalings(report, instances) }
    };
    let runs: Vec<Explained<'_>> = reports.iter().enumerate().map(explained).collect();
    Ok(text(&runs))
}
