//! `quintet-bench report`: shows results again, in any form.

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
    /// A report.json of `run`, or the study's raw JSON; several are shown one after the other.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// markdown: tables and warnings. csv: one line for each cell, unrounded; warnings go to stderr.
    /// json: the figures and warnings of each file. html: the page of a report.json. svg: p50 by batch size, drawn.
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
    /// The page.
    Html,
    /// A plot.
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
/// When a file is not results, or cannot be shown in the form.
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
            drawn.with_context(|| format!("{} has nothing to draw: no lane was measured by batch size", file.display()))
        }
    }
}

/// Results with the samples that stand beside them: some rules look at single requests.
fn read(file: &Path) -> anyhow::Result<Results> {
    Ok(match Results::read(file)? {
        Results::Report(name, _) => Results::Report(name, Box::new(Report::read(file)?)),
        study => study,
    })
}

/// The only file of a form that has one.
fn one(args: &ReportArgs) -> anyhow::Result<&Path> {
    match &args.files[..] {
        [file] => Ok(file),
        files => bail!("html and svg are of one file, and {} are given: ask for each by itself", files.len()),
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
            let told = Markdown.export(&report)?;
            match &link {
                Some(link) => format!("{told}\n{}", markdown::explained(&summary, link)),
                None => told,
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
            bail!("{}: the study's raw JSON has no parts to draw a page of: ask for markdown or svg", file.display())
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

/// What the checks find in a report, or in imported figures.
fn judge(results: &Results, summary: &Summary) -> Vec<Warning> {
    match results {
        Results::Study(_) => checks::judge_imported(summary),
        // Without samples they cannot be found again: the run found them.
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

    /// A report in its folder, in which the median of one lane moves: its samples alone show that.
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
    fn samples_are_judged_again() {
        let folder = stored();
        for format in [Format::Markdown, Format::Html, Format::Json] {
            assert!(shown(folder.path(), format).contains("the median changes from block to block"), "{format:?}");
        }
    }

    #[test]
    fn without_samples_the_runs_own_warnings_stand() {
        let folder = stored();
        std::fs::remove_file(folder.path().join(samples::FILE)).unwrap();
        let text = shown(folder.path(), Format::Markdown);
        assert!(!text.contains("the median changes"), "the fixture was judged before it moved");
        let told = fixture::report().warnings;
        assert!(!told.is_empty() && told.iter().all(|warning| text.contains(&warning.to_string())), "{text}");
    }
}
