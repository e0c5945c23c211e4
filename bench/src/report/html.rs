//! Writes `report.html`: one self-contained page with plots, for phones, print, and light and dark mode.

use std::fmt::Write as _;

use crate::{
    model::{
        hypothesis::{Finding, Verdict},
        lane::Lane,
        part::Location,
        report::Report,
        warning::{Severity, Warning},
        words::list,
    },
    report::{
        exporter::{ExportError, Exporter},
        extent::{extent, sent},
        plots,
        svg::frame::escape,
        table::{NOTHING, Table, label, milliseconds, signed},
        tables,
        verdicts::decider,
        waterfalls::{waterfall_loads, waterfalls_at},
    },
};

/// The HTML format.
pub struct Html;

/// Colours and layout.
const STYLE: &str = concat!(include_str!("plots.css"), include_str!("report.css"));

impl Exporter for Html {
    fn file_name(&self) -> &'static str {
        "report.html"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        let title = format!("Five lanes side by side: {}", escape(&report.settings.model));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        page.push_str(&head(report));
        page.push_str(&answer(report));
        page.push_str(&warnings(&report.warnings));
        page.push_str(&plots::waterfalls(report));
        page.push_str(&plots::plots(report));
        page.push_str(&hypotheses(&report.hypotheses));
        page.push_str("<h2>Tables</h2>\n<p class=\"quiet\">Values are followed by their 95 % interval.</p>\n");
        for shown in tables::tables(report).iter().filter(|table| table.title != "Hypotheses") {
            page.push_str(&table(shown));
        }
        page.push_str(&origin(report));
        page.push_str("</main>\n</body>\n</html>\n");
        Ok(page)
    }
}

fn head(report: &Report) -> String {
    let environment = &report.environment;
    let mut text = String::new();
    if report.interrupted {
        text.push_str("<p class=\"stop\">Interrupted: this report covers only what was measured before.</p>\n");
    }
    if !report.resumed_at.is_empty() {
        let times = escape(&list(&report.resumed_at));
        let _ = writeln!(text, "<p class=\"stop\">Stopped, and resumed at {times}.</p>");
    }
    let _ = writeln!(
        text,
        "<p class=\"quiet\">{} · {:.0} s · {} ({} cores){} · {}</p>",
        escape(&report.started_at),
        report.elapsed_s,
        escape(&environment.cpu),
        environment.cores,
        environment.gpus.iter().map(|gpu| format!(" · {}", escape(gpu))).collect::<String>(),
        extent(report)
    );
    if let Some(outputs) = tables::outputs(report) {
        let _ = writeln!(text, "<p class=\"quiet\">{}</p>", escape(&outputs));
    }
    text
}

/// Transport or compute, for the smallest batch: one card for each lane.
fn answer(report: &Report) -> String {
    let Some(&load) = waterfall_loads(report).first() else { return String::new() };
    let mut cards = String::new();
    for (lane, waterfall) in waterfalls_at(report, load) {
        let staged = waterfall.at(Location::Server);
        // Without stage times: Triton's request duration, which does not include reading and writing.
        let server = staged.or_else(|| report.cell(lane, load)?.server.as_ref().map(|server| server.request_ms));
        let known = if staged.is_some() { "share" } else { "share unknown" };
        let (text, width) = match server {
            Some(ms) => {
                let share = (ms / waterfall.latency_ms).clamp(0.0, 1.0);
                let least = if staged.is_some() { "" } else { "at least " };
                (format!("{least}{}\u{a0}ms in the server ({:.0}\u{a0}%)", milliseconds(ms), share * 100.0), share)
            }
            None => ("time in the server unknown".into(), 0.0),
        };
        let _ = writeln!(
            cards,
            "<div class=\"card\"><b class=\"{}\">{}</b><span class=\"big\">{} ms</span>\
             <span class=\"{known}\"><i style=\"width:{:.0}%\"></i></span><span class=\"quiet\">{text}</span></div>",
            plots::class(lane),
            label(lane),
            milliseconds(waterfall.latency_ms),
            width * 100.0
        );
    }
    if cards.is_empty() {
        return cards;
    }
    format!(
        "<h2>Transport or compute? <small>mean latency, {load}</small></h2>\n<div class=\"cards\">\n{cards}</div>\n"
    )
}

/// The warnings, grouped by kind: with ten lanes they would fill pages otherwise.
fn warnings(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Warnings</h2>\n<ul class=\"warnings\">\n".to_owned();
    let same = |a: &Warning, b: &Warning| (&a.code, a.severity, &a.remedy) == (&b.code, b.severity, &b.remedy);
    for warnings in warnings.chunk_by(same) {
        let Warning { code, severity, remedy, .. } = &warnings[0];
        let class = match severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let (code, remedy) = (escape(code), escape(remedy));
        let _ = write!(text, "<li class=\"{class}\"><b>{class}</b> <code>{code}</code> ");
        let lanes = |warning: &Warning| format!("<span class=\"quiet\">{}</span>", list(&warning.lanes));
        if let [warning] = warnings {
            let _ = write!(text, "{}<br>{}.<br>", lanes(warning), escape(&warning.message));
        } else {
            let open = if *severity == Severity::Error { " open" } else { "" };
            let mut concerned: Vec<Lane> = Vec::new();
            for lane in warnings.iter().flat_map(|warning| &warning.lanes) {
                if !concerned.contains(lane) {
                    concerned.push(*lane);
                }
            }
            let _ =
                write!(text, "<details{open}><summary>{} findings: {}</summary><ul>", warnings.len(), list(concerned));
            for warning in warnings {
                let _ = write!(text, "<li>{}: {}.</li>", lanes(warning), escape(&warning.message));
            }
            text.push_str("</ul></details>");
        }
        let _ = writeln!(text, "<em>{remedy}</em></li>");
    }
    text + "</ul>\n"
}

fn hypotheses(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let chip = |verdict: Verdict| format!("<span class=\"chip {0}\">{0}</span>", verdict.name());
    let mut text = "<h2>Hypotheses</h2>\n<ul class=\"hypotheses\">\n".to_owned();
    for finding in findings {
        let _ = write!(
            text,
            "<li>{} <b>{}</b> {}",
            chip(finding.verdict),
            escape(&finding.name),
            escape(&finding.statement)
        );
        if let Some(reason) = finding.reason.as_ref().filter(|_| finding.claims.is_empty()) {
            let _ = write!(text, "<br><span class=\"quiet\">{}</span>", escape(reason));
        }
        if !finding.claims.is_empty() {
            let (effect, needed) = decider(finding);
            let needed = if needed == NOTHING { String::new() } else { format!(" · {}", escape(&needed)) };
            let claims = if finding.claims.len() == 1 { "claim" } else { "claims" };
            let _ = write!(
                text,
                "<br><span class=\"quiet\">{}{needed}</span><details><summary>{} {claims}</summary><ul>",
                escape(&effect.replace('`', "")),
                finding.claims.len()
            );
            for judged in &finding.claims {
                let unit = judged.claim.metric.unit();
                let effect = judged.effect.map_or(NOTHING.into(), |e| format!("{} {unit}", signed(e.difference, 2)));
                let needs =
                    judged.needs.map(|needs| format!("needs {} requests in {} blocks", needs.requests, needs.blocks));
                let more = needs
                    .or_else(|| judged.cost())
                    .or_else(|| judged.reason.clone())
                    .map_or(String::new(), |more| format!(" · {}", escape(&more)));
                let _ = write!(
                    text,
                    "<li>{} <code>{}</code><br><span class=\"quiet\">left − right: {}{more}</span></li>",
                    chip(judged.verdict),
                    escape(&judged.claim.to_string()),
                    escape(&effect)
                );
            }
            text.push_str("</ul></details>");
        }
        text.push_str("</li>\n");
    }
    text + "</ul>\n"
}

fn table(Table { title, first, columns, rows, note }: &Table) -> String {
    let mut text = format!("<h3>{}</h3>\n<div class=\"wide\"><table>\n<thead><tr><th>{first}</th>", escape(title));
    for column in columns {
        let _ = write!(text, "<th>{}</th>", escape(column));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for (name, values) in rows {
        let _ = write!(text, "<tr><th>{}</th>", escape(name));
        for value in values {
            let _ = write!(text, "<td>{}</td>", value_with_interval(value));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
    if let Some(note) = note {
        let _ = writeln!(text, "<p class=\"quiet\">{}</p>", escape(&note.replace('`', "")));
    }
    text
}

/// Puts the interval below the value, in small type.
fn value_with_interval(value: &str) -> String {
    match value.split_once(" (") {
        Some((value, interval)) => format!("{} <small>({}</small>", escape(value), escape(interval)),
        None => escape(value),
    }
}

/// The origin of the figures: machine, program, command line.
fn origin(report: &Report) -> String {
    let environment = &report.environment;
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let libraries: Vec<_> = environment.libraries.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let gpus = if environment.gpus.is_empty() { "none on this machine".into() } else { environment.gpus.join(", ") };
    let rows = [
        ("Command line", environment.command_line.join(" ")),
        ("Program", format!("quintet-bench {}, commit {}", environment.version, or_unknown(&environment.commit))),
        ("Libraries", libraries.join(", ")),
        (
            "System",
            format!("{}, {}, {} cores, {}", environment.cpu, environment.arch, environment.cores, environment.os),
        ),
        ("GPU", gpus),
        ("GPU driver", or_unknown(&environment.gpu_driver)),
        sent(report),
        ("Seed", report.settings.seed.to_string()),
        ("Format", report.schema.clone()),
    ];
    let mut text = "<h2>Where the figures come from</h2>\n<dl>\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(text, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    text + "</dl>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_page_is_self_contained_and_its_text_is_escaped() {
        let page = Html.export(&fixture::report()).unwrap();
        for outside in ["<script", "http-equiv", "<link", "@import", "url(http", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;coffee&gt; &amp; cake.jpg") && !page.contains("<coffee>"));
        assert!(page.contains("triton &lt;2.51.0&gt;"));
        assert_eq!(page.matches("<svg").count(), 2 + 5 + 3, "waterfalls, plots, distributions");
        assert!(page.len() < 300_000, "{} bytes", page.len());
    }

    #[test]
    fn warnings_of_one_kind_are_grouped() {
        let warning = |lane, message: &str| Warning {
            code: "link-bound".into(),
            severity: Severity::Warning,
            lanes: vec![lane],
            message: message.into(),
            remedy: "Move <closer>.".into(),
        };
        let far = [warning(Lane::JPEG, "far"), warning(Lane::TRT_HTTP, "farther")];
        let both = warnings(&far);
        assert_eq!(both.matches("Move &lt;closer&gt;.").count(), 1);
        assert!(both.contains("<summary>2 findings: jpeg, trt-http</summary>"), "{both}");
        assert!(both.contains("far.") && both.contains("farther."));
        assert!(!warnings(&far[..1]).contains("<details"));
        let other = Warning { remedy: "Stay.".into(), ..far[1].clone() };
        assert_eq!(warnings(&[far[0].clone(), other]).matches("<li class").count(), 2);
    }

    /// Triton's request duration does not include reading and writing, so the rest of the latency is not all network.
    #[test]
    fn tritons_request_duration_is_a_lower_bound() {
        let page = answer(&fixture::report());
        let card =
            |name: &str| page.split(&format!(">{name}</b>")).nth(1).unwrap().split("</div>").next().unwrap().to_owned();
        assert!(card("TRT HTTP").contains("class=\"share unknown\"") && card("TRT HTTP").contains(">at least "));
        assert!(card("ONNX HTTP").contains("class=\"share\"") && !card("ONNX HTTP").contains("at least"));
        assert!(card("JPEG HTTP").contains("time in the server unknown"));
    }

    #[test]
    fn tags_are_closed() {
        let page = Html.export(&fixture::report()).unwrap();
        for tag in ["svg", "g", "table", "figure", "ul", "li", "div", "details", "main", "dl", "span", "small", "text"]
        {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn an_empty_report_is_a_page() {
        let mut report = fixture::report();
        report.cells.clear();
        report.lanes.clear();
        crate::study::hypotheses::conclude(&mut report);
        assert!(Html.export(&report).unwrap().ends_with("</html>\n"));
    }
}
