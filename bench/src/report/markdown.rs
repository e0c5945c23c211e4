//! Writes `report.md`: a head, the tables and the warnings in Markdown.

use std::fmt::Write as _;

use crate::{
    analysis::summary::Summary,
    model::{link::LinkSpec, report::Report, warning::Warning, words::list},
    report::{
        exporter::{ExportError, Exporter},
        extent::{extent, sent},
        table::Table,
        tables,
    },
};

/// The Markdown format.
pub struct Markdown;

impl Exporter for Markdown {
    fn file_name(&self) -> &'static str {
        "report.md"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        let mut sections = vec![head(report)];
        let mut tables = tables::tables(report).into_iter();
        // The lanes come first, then whether their outputs agree.
        sections.extend(tables.next().map(|lanes| with_note(&lanes)));
        sections.extend(tables::outputs(report).map(|text| text + "\n"));
        sections.extend(tables.map(|table| with_note(&table)));
        sections.push(warnings(report));
        Ok(sections.join("\n"))
    }
}

/// A table and its note.
pub(crate) fn with_note(Table { title, first, columns, rows, note }: &Table) -> String {
    let text = table(title, first, columns, rows);
    note.as_ref().map_or(text.clone(), |note| format!("{text}\n{}\n", cell(note)))
}

/// A table: a title, the head of the first column, the other heads, and rows.
pub(crate) fn table(title: &str, first: &str, columns: &[String], rows: &[(String, Vec<String>)]) -> String {
    let mut text = format!("## {title}\n\n| {first} |");
    for column in columns {
        let _ = write!(text, " {} |", cell(column));
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(columns.len()));
    for (name, values) in rows {
        let values: Vec<_> = values.iter().map(|value| cell(value)).collect();
        let _ = writeln!(text, "| {} | {} |", cell(name), values.join(" | "));
    }
    text
}

/// Escapes text for a cell of a table; code in backticks stays as it is.
fn cell(text: &str) -> String {
    let plain = |text: &str| text.replace('*', "\\*").replace('<', "&lt;");
    let pieces = text.split('`').enumerate();
    let pieces: Vec<_> = pieces.map(|(i, piece)| if i % 2 == 0 { plain(piece) } else { piece.to_owned() }).collect();
    pieces.join("`").replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The section that compares predicted latency with measured latency; empty if no cell can be predicted.
pub(crate) fn predicted(summary: &Summary, link: &LinkSpec) -> String {
    let table = super::predicted::table(summary, link);
    if table.rows.is_empty() { String::new() } else { with_note(&table) }
}

fn head(report: &Report) -> String {
    let Report { environment, settings, .. } = report;
    let mut text = format!("# Five lanes side by side: {}\n\n", settings.model);
    if report.interrupted {
        text.push_str("**Interrupted: this report covers only what was measured before.**\n\n");
    }
    if !report.resumed_at.is_empty() {
        let _ = writeln!(text, "**Stopped, and resumed at {}.**\n", list(&report.resumed_at));
    }
    let commit = environment.commit.as_ref().map_or(String::new(), |commit| format!(" ({commit})"));
    let gpus = environment.gpus.iter().map(|gpu| format!(" · {gpu}")).collect::<String>();
    let _ = writeln!(
        text,
        "{} · {:.0} s · quintet-bench {}{commit} · {} ({} cores){gpus} · {}",
        report.started_at, report.elapsed_s, environment.version, environment.cpu, environment.cores, environment.os
    );
    let windows = match report.scenario {
        Some(_) => String::new(),
        None => format!(", windows of {:.1} s", settings.duration.as_secs_f64()),
    };
    let (kind, sent) = sent(report);
    let mut extent = extent(report);
    extent[..1].make_ascii_uppercase();
    let _ = writeln!(
        text,
        "\n{extent}{windows}, seed {}. {kind}: {}.\nValues are followed by their 95 % interval.",
        settings.seed,
        cell(&sent)
    );
    if let Some(link) = &settings.link {
        let _ = writeln!(text, "\nBetween client and lanes: an emulated link, `{link}`.");
    }
    text
}

fn warnings(report: &Report) -> String {
    warning_list(&report.warnings)
}

/// The section of warnings, which ends every report.
pub(crate) fn warning_list(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return "## Warnings\n\nNone.\n".into();
    }
    let mut text = "## Warnings\n\n".to_owned();
    for warning in warnings {
        let _ = writeln!(text, "- {warning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_report_in_markdown() {
        insta::assert_snapshot!(Markdown.export(&fixture::report()).unwrap());
    }
}
