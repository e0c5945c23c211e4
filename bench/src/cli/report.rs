//! `quintet-bench report`: shows saved results in a chosen format.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    analysis::{checks, summary::Summary},
    cli::{fail_on::FailOnArgs, output::write_stdout},
    model::{link::LinkSpec, report::Report, warning::Warning},
    report::{
        csv,
        exporter::Exporter as _,
        hdr,
        html::Html,
        markdown::{self, Markdown},
    },
    study::{import::Results, tables},
};

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportCommand {
    /// What is shown.
    #[command(flatten)]
    pub args: ReportArgs,
    /// Also write the percentile distribution of each cell of one report.json into this folder, as HdrHistogram's tools
    /// plot it (.hgrm, in ms).
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
    /// Conditions that fail the command.
    #[command(flatten)]
    pub fail_on: FailOnArgs,
}

/// What `report` shows.
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
    /// One line for each cell, unrounded, as in report.csv; warnings go to stderr.
    Csv,
    /// A list with what report.json holds of each file, judged again; of the study's raw data, figures and warnings.
    Json,
    /// The page of one report.json.
    Html,
    /// A plot of p50 by batch size, of one file.
    Svg,
    /// HdrHistogram's interval log (V2, compressed) of one report.json: one interval for each block, tagged with its cell.
    Hlog,
}

/// A result with the warnings of today's checks.
#[derive(Serialize)]
#[serde(untagged)]
enum Judged {
    Report(Box<Report>),
    Imported {
        #[serde(flatten)]
        summary: Box<Summary>,
        warnings: Vec<Warning>,
    },
}

/// Shows the files and judges the conditions by each of them.
///
/// # Errors
/// As [`report`].
pub fn command(command: &ReportCommand) -> anyhow::Result<ExitCode> {
    let ReportCommand { args, hgrm, fail_on } = command;
    write_stdout(&report(args)?)?;
    if let Some(folder) = hgrm {
        write_distributions(one(args)?, folder)?;
    }
    let mut status = 0;
    if !fail_on.fail_on.is_empty() {
        for file in &args.files {
            status = fail_on.judge(file)?.unwrap_or(status);
        }
    }
    Ok(ExitCode::from(status))
}

/// Writes the percentile distribution of each cell of a report into a folder.
fn write_distributions(file: &Path, folder: &Path) -> anyhow::Result<()> {
    let failed = || format!("--hgrm: cannot write to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for (name, text) in hdr::distributions(&*saved(file)?)? {
        fs::write(folder.join(name), text).with_context(failed)?;
    }
    Ok(())
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
        Format::Json => {
            let judged: anyhow::Result<Vec<_>> = args.files.iter().map(|file| judged(file)).collect();
            Ok(serde_json::to_string_pretty(&judged?)? + "\n")
        }
        Format::Csv => table(&args.files),
        Format::Hlog => Ok(hdr::log(&*saved(one(args)?)?)?),
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
pub(super) fn read(file: &Path) -> anyhow::Result<Results> {
    Ok(match Results::read(file)? {
        Results::Report(name, _) => Results::Report(name, Box::new(Report::read(file)?)),
        study => study,
    })
}

/// The only file, for formats that show one.
fn one(args: &ReportArgs) -> anyhow::Result<&Path> {
    match &args.files[..] {
        [file] => Ok(file),
        files => {
            bail!("html, svg and hlog show one file, but {} are given: run the command once for each file", files.len())
        }
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

/// A report with its samples; the study's raw data has none.
fn saved(file: &Path) -> anyhow::Result<Box<Report>> {
    match read(file)? {
        Results::Report(_, report) => Ok(report),
        Results::Study(_) => bail!("{}: the study's raw JSON has no samples: give a report.json", file.display()),
    }
}

fn judged(file: &Path) -> anyhow::Result<Judged> {
    let results = read(file)?;
    let summary = results.summary();
    let warnings = judge(&results, &summary);
    Ok(match results {
        Results::Report(_, report) => Judged::Report(Box::new(Report { warnings, ..*report })),
        Results::Study(_) => Judged::Imported { summary: Box::new(summary), warnings },
    })
}

/// All cells of all files as one CSV table; the warnings go to stderr.
fn table(files: &[PathBuf]) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for file in files {
        let results = read(file)?;
        let summary = results.summary();
        for warning in judge(&results, &summary) {
            eprintln!("{}: {warning}", summary.name);
        }
        rows.extend(match &results {
            Results::Report(name, report) => csv::rows(name, report),
            Results::Study(summary) => csv::imported(summary),
        });
    }
    Ok(csv::write(&rows)?)
}

impl FailOnArgs {
    /// Judges the conditions by a saved result. `Some` exit status if one fails.
    ///
    /// # Errors
    /// When the file holds no results.
    pub(super) fn judge(&self, file: &Path) -> anyhow::Result<Option<u8>> {
        let results = read(file)?;
        let summary = results.summary();
        let warnings = judge(&results, &summary);
        let report = match &results {
            Results::Report(_, report) => Some(&**report),
            Results::Study(_) => None,
        };
        Ok(self.status(&summary.name, &warnings, report))
    }
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
