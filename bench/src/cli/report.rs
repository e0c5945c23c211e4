//! `quintet-bench report`: shows saved results in a chosen format.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    analysis::{checks, summary::Summary},
    model::{link::LinkSpec, report::Report, warning::Warning},
    report::{
        exporter::Exporter as _,
        html::Html,
        markdown::{self, Markdown},
    },
    study::{import::Results, tables},
};

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Results to show: report.json of `run`, or the study's raw JSON. Several are shown one after another.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Format of the output.
    #[arg(long, value_enum, default_value = "markdown")]
    pub format: Format,
    /// Link between client and servers, as `quintet-bench link` prints it: adds the latency that it explains. Not needed
    /// for runs over an emulated link.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,...")]
    pub link: Option<LinkSpec>,
}

/// Formats of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and warnings.
    Markdown,
    /// One line for each cell, unrounded; warnings go to stderr.
    Csv,
    /// Figures and warnings of each file.
    Json,
    /// The page of one report.json.
    Html,
    /// A plot of p50 by batch size, of one file.
    Svg,
}

#[derive(Serialize)]
struct Judged {
    #[serde(flatten)]
    summary: Summary,
    warnings: Vec<Warning>,
}

/// Reads the files and shows them.
///
/// # Errors
/// When a file holds no results, or cannot be shown in the format.
pub fn report(args: &ReportArgs) -> anyhow::Result<String> {
    match args.format {
        Format::Markdown => {
            let texts: anyhow::Result<Vec<String>> = args.files.iter().map(|file| markdown(file, args.link)).collect();
            Ok(texts?.join("\n"))
        }
        Format::Json => Ok(serde_json::to_string_pretty(&figures(&args.files)?)? + "\n"),
        Format::Csv => {
            let judged = figures(&args.files)?;
            for Judged { summary, warnings } in &judged {
                for warning in warnings {
                    eprintln!("{}: {warning}", summary.name);
                }
            }
            tables::csv(judged.iter().map(|judged| &judged.summary))
        }
        Format::Html => page(one(args)?),
        Format::Svg => {
            let file = one(args)?;
            let drawn = tables::svg(&Results::read(file)?.summary());
            drawn.with_context(|| {
                format!(
                    "{} has nothing to plot: no lane was measured by batch size; use --format markdown",
                    file.display()
                )
            })
        }
    }
}

/// Results with the samples next to them, which some checks need.
fn read(file: &Path) -> anyhow::Result<Results> {
    Ok(match Results::read(file)? {
        Results::Report(name, _) => Results::Report(name, Box::new(Report::read(file)?)),
        study => study,
    })
}

/// The only file, for formats that show one.
fn one(args: &ReportArgs) -> anyhow::Result<&Path> {
    match &args.files[..] {
        [file] => Ok(file),
        files => bail!("html and svg show one file, but {} are given: run the command once for each file", files.len()),
    }
}

fn markdown(file: &Path, link: Option<LinkSpec>) -> anyhow::Result<String> {
    let results = read(file)?;
    let summary = results.summary();
    let warnings = judge(&results, &summary);
    Ok(match results {
        Results::Study(summary) => tables::markdown(&summary, &warnings, link.as_ref()),
        Results::Report(_, mut report) => {
            report.warnings = warnings;
            let text = Markdown.export(&report)?;
            match &link {
                Some(link) => format!("{text}\n{}", markdown::predicted(&summary, link)),
                None => text,
            }
        }
    })
}

fn page(file: &Path) -> anyhow::Result<String> {
    let results = read(file)?;
    let warnings = judge(&results, &results.summary());
    match results {
        Results::Report(_, mut report) => {
            report.warnings = warnings;
            Ok(Html.export(&report)?)
        }
        Results::Study(_) => {
            bail!("{}: the study's raw JSON cannot be shown as html: use --format markdown or svg", file.display())
        }
    }
}

fn figures(files: &[PathBuf]) -> anyhow::Result<Vec<Judged>> {
    let judged = |file: &PathBuf| {
        let results = read(file)?;
        let summary = results.summary();
        let warnings = judge(&results, &summary);
        Ok(Judged { summary, warnings })
    };
    files.iter().map(judged).collect()
}

/// The warnings of the checks for a report or for imported figures.
fn judge(results: &Results, summary: &Summary) -> Vec<Warning> {
    match results {
        Results::Study(_) => checks::judge_imported(summary),
        // The checks need samples: without them, keep the warnings of the run.
        Results::Report(_, report) if report.cells.iter().all(|cell| cell.samples.latency_us.is_empty()) => {
            report.warnings.clone()
        }
        Results::Report(_, report) => checks::judge(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, report::samples};

    /// A report in a folder, in which the median of one lane moves; only the samples show that.
    fn stored() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut report = fixture::report();
        let cell = &mut report.cells[2];
        let last = cell.blocks[5];
        cell.samples.latency_us[last.first..].iter_mut().for_each(|us| *us *= 2.0);
        for (name, contents) in report.files().unwrap() {
            std::fs::write(folder.path().join(name), contents).unwrap();
        }
        folder
    }

    fn shown(folder: &Path, format: Format) -> String {
        report(&ReportArgs { files: vec![folder.join("report.json")], format, link: None }).unwrap()
    }

    #[test]
    fn checks_run_again_on_the_samples() {
        let folder = stored();
        for format in [Format::Markdown, Format::Html, Format::Json] {
            assert!(shown(folder.path(), format).contains("the median changes from block to block"), "{format:?}");
        }
    }

    #[test]
    fn without_samples_the_warnings_of_the_run_are_kept() {
        let folder = stored();
        std::fs::remove_file(folder.path().join(samples::FILE)).unwrap();
        let text = shown(folder.path(), Format::Markdown);
        assert!(!text.contains("the median changes"), "the fixture was judged before it moved");
        let warnings = fixture::report().warnings;
        assert!(!warnings.is_empty() && warnings.iter().all(|warning| text.contains(&warning.to_string())), "{text}");
    }
}
