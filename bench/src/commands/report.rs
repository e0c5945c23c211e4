//! `quintet-bench report`: results read back, in another form.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    import::Results,
    link::LinkSpec,
    report::{Exporter as _, Markdown, explained, study},
    summary::Summary,
    suspicions,
    warnings::{self, Warning},
};

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A report.json of `run`, or the study's raw JSON; several are shown one after the other.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// markdown: tables and warnings. csv: one line for each cell, unrounded; warnings go to stderr.
    /// json: the figures and warnings of each file.
    #[arg(long, value_enum, default_value = "markdown")]
    pub format: Format,
    /// Link that the requests went over, as `quintet-bench link` finds it: shows what it explains. Reports
    /// of runs over an emulated link tell theirs anyway.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,...")]
    pub link: Option<LinkSpec>,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Markdown,
    /// Cells.
    Csv,
    /// Figures and warnings.
    Json,
}

#[derive(Serialize)]
struct Judged {
    #[serde(flatten)]
    summary: Summary,
    warnings: Vec<Warning>,
}

/// Reads the files and says what is in them.
///
/// # Errors
/// When a file is not results.
pub fn report(args: &ReportArgs) -> anyhow::Result<String> {
    let mut texts = Vec::new();
    let mut judged = Vec::new();
    for file in &args.files {
        let results = Results::read(file)?;
        let summary = results.summary();
        let warnings = judge(&results, &summary);
        if args.format == Format::Markdown {
            texts.push(match results {
                Results::Study(summary) => study::markdown(&summary, &warnings, args.link.as_ref()),
                Results::Report(_, mut report) => {
                    report.warnings = warnings;
                    let told = Markdown.export(&report)?;
                    match &args.link {
                        Some(link) => format!("{told}\n{}", explained(&summary, link)),
                        None => told,
                    }
                }
            });
        } else {
            judged.push(Judged { summary, warnings });
        }
    }
    match args.format {
        Format::Markdown => Ok(texts.join("\n")),
        Format::Json => Ok(serde_json::to_string_pretty(&judged)? + "\n"),
        Format::Csv => {
            for Judged { summary, warnings } in &judged {
                for warning in warnings {
                    eprintln!("{}: {warning}", summary.name);
                }
            }
            study::csv(judged.iter().map(|judged| &judged.summary))
        }
    }
}

/// The warnings of the figures, and of the whole report where there is one.
fn judge(results: &Results, summary: &Summary) -> Vec<Warning> {
    let mut found = match results {
        Results::Study(_) => Vec::new(),
        Results::Report(_, report) => warnings::judge(report),
    };
    found.extend(suspicions::judge(summary));
    found.sort_by_key(|warning| std::cmp::Reverse(warning.severity));
    found
}
