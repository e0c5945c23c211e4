//! `report.html`: one page that needs nothing else, with plots; readable on a telephone, in print, by day and night.

use std::{fmt::Write as _, time::Duration};

use super::{
    Cell, ExportError, Exporter, Report,
    svg::{Axis, Bar, Point, Scale, Segment, Series, bars, escape, plot, short},
    tables::{self, NOTHING, Table, label},
};
use crate::{
    explain::{Exchange, crossover, predict},
    hypotheses::{Finding, Verdict},
    lane::Lane,
    link::LinkSpec,
    plan::Load,
    stats::Estimate,
    warnings::{Severity, Warning, list},
    waterfall::{Part, Place},
};

/// The HTML form.
pub struct Html;

/// Requests that differ less in bytes than by this factor do not change places by them, but by chance.
const FEWER_BYTES: f64 = 1.1;
/// Rates of the links for which requests are predicted, in Mbit/s.
const LINKS_MBIT: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, MOST_MBIT];
/// The fastest of them.
const MOST_MBIT: f64 = 10_000.0;
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
        page.push_str(&waterfalls(report));
        page.push_str(&plots(report));
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
    let Report { environment, settings, .. } = report;
    let mut text = String::new();
    if report.interrupted {
        text.push_str("<p class=\"stop\">Interrupted: what follows was measured up to then.</p>\n");
    }
    if !report.resumed_at.is_empty() {
        let times = escape(&list(&report.resumed_at));
        let _ = writeln!(text, "<p class=\"stop\">Stopped, and resumed at {times}.</p>");
    }
    let _ = writeln!(
        text,
        "<p class=\"quiet\">{} · {:.0} s · {} ({} cores){} · {} requests for each lane and batch in {} blocks</p>",
        escape(&report.started_at),
        report.elapsed_s,
        escape(&environment.cpu),
        environment.cores,
        environment.gpus.iter().map(|gpu| format!(" · {}", escape(gpu))).collect::<String>(),
        settings.iterations,
        settings.blocks
    );
    if let Some(outputs) = tables::outputs(report) {
        let _ = writeln!(text, "<p class=\"quiet\">{}</p>", escape(&outputs));
    }
    text
}

/// The question that the suite is for, answered for the smallest batch: one card for each lane.
fn answer(report: &Report) -> String {
    let Some(&load) = tables::waterfall_loads(report).first() else { return String::new() };
    let mut cards = String::new();
    for (lane, waterfall) in tables::waterfalls_at(report, load) {
        let staged = waterfall.at(Place::Server);
        // Triton's own count of the stay, where single stages are unknown: reading and writing are not in it.
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
            class(lane),
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

/// A time with three digits or so.
fn milliseconds(ms: f64) -> String {
    let digits = match ms {
        ms if ms >= 100.0 => 0,
        ms if ms >= 10.0 => 1,
        _ => 2,
    };
    format!("{ms:.digits$}")
}

/// The warnings, those of one kind together: with ten lanes they would fill pages otherwise.
fn warnings(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Before you believe it</h2>\n<ul class=\"warnings\">\n".to_owned();
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

fn figure(caption: &str, svg: Option<String>, legend: &str) -> String {
    svg.map_or(String::new(), |svg| {
        format!("<figure><figcaption>{}</figcaption>{svg}{legend}</figure>\n", escape(caption))
    })
}

fn waterfalls(report: &Report) -> String {
    let mut figures = String::new();
    for load in tables::waterfall_loads(report) {
        let found = tables::waterfalls_at(report, load);
        let rows: Vec<Bar> = found
            .iter()
            .map(|(lane, waterfall)| {
                let known = waterfall.parts.iter().filter_map(|time| Some((time.part, time.ms?.value)));
                let together = list(waterfall.unknown().map(Part::name));
                let segments = known.map(|(part, ms)| Segment {
                    class: format!("part {}", part.name()),
                    label: match part {
                        Part::Unknown => format!("unknown ({together}, together): {ms:.3} ms"),
                        _ => format!("{}: {ms:.3} ms", part.name()),
                    },
                    value: ms,
                });
                let gap = if waterfall.adds_up() { "" } else { ", parts do not add up" };
                Bar {
                    label: label(*lane),
                    total: format!("{} ms{gap}", milliseconds(waterfall.latency_ms)),
                    segments: segments.collect(),
                }
            })
            .collect();
        let used = |part: &Part| found.iter().any(|(_, waterfall)| waterfall.ms(*part).is_some_and(|ms| ms > 0.0));
        let key = |part: Part| format!("<li><i class=\"part {0}\"></i>{0}</li>", part.name());
        let legend: String = Part::ALL.into_iter().filter(used).map(key).collect();
        let caption = format!("Mean latency in parts, {load}");
        figures += &figure(&caption, bars(&caption, "ms", &rows), &format!("<ul class=\"legend\">{legend}</ul>"));
    }
    if figures.is_empty() {
        return figures;
    }
    format!(
        "<h2>Where the time goes</h2>\n<p class=\"quiet\">Grey is the client, purple its connecting, orange the way, \
         blue and green the server; hatched is time that nobody accounts for.</p>\n<div class=\"figures\">\n{figures}</div>\n"
    )
}

/// The page's classes of a lane.
pub(super) fn class(lane: Lane) -> String {
    let peer = if lane.peer.is_some() { " peer" } else { "" };
    format!("{}{peer}", lane.kind)
}

/// One line for each lane; its values of the cells, in their order.
fn lines(report: &Report, points: impl Fn(&Cell) -> Option<Point>, keep: impl Fn(Load) -> bool) -> Vec<Series> {
    let line = |lane: Lane| Series {
        class: class(lane),
        label: label(lane),
        points: report.plain_cells().filter(|c| c.lane == lane && keep(c.load)).filter_map(&points).collect(),
        marks: true,
    };
    report.lanes.iter().map(|info| line(info.lane)).collect()
}

fn point(x: f64, y: Estimate) -> Point {
    Point { x, y: y.value, interval: Some((y.low, y.high)) }
}

fn axis(label: &str, scale: Scale) -> Axis<'_> {
    Axis { label, scale, ticks: Vec::new() }
}

fn is_serial(load: Load) -> bool {
    matches!(load, Load::Serial { .. })
}

fn is_concurrent(load: Load) -> bool {
    matches!(load, Load::Concurrent { .. })
}

fn plots(report: &Report) -> String {
    let p50 = |cell: &Cell| Some(cell.latency_ms.as_ref()?.p50);
    let batches = report.settings.batches.iter().map(|&batch| batch as f64).collect();
    let log = |label| axis(label, Scale::Log);
    let figures = [
        (
            "Latency by batch",
            plot(
                "p50 latency by batch size",
                &Axis { label: "images in a request", scale: Scale::Log, ticks: batches },
                &log("p50 latency, ms"),
                &lines(report, |cell| Some(point(cell.load.batch() as f64, p50(cell)?)), is_serial),
            ),
        ),
        (
            "Payload against latency",
            plot(
                "p50 latency by bytes of a request",
                &log("KB in a request"),
                &log("p50 latency, ms"),
                &lines(report, |cell| Some(point(cell.request_bytes as f64 / 1e3, p50(cell)?)), is_serial),
            ),
        ),
        (
            "Throughput against latency, together",
            plot(
                "p50 latency by throughput under concurrent load",
                &axis("images/s", Scale::Linear),
                &axis("p50 latency, ms", Scale::Linear),
                &lines(report, |cell| Some(point(cell.images_per_s?.value, p50(cell)?)), is_concurrent),
            ),
        ),
        (
            "Throughput by batch, one after the other",
            plot(
                "throughput by batch size",
                &Axis {
                    label: "images in a request",
                    scale: Scale::Log,
                    ticks: report.settings.batches.iter().map(|&batch| batch as f64).collect(),
                },
                &axis("images/s", Scale::Linear),
                &lines(report, |cell| Some(point(cell.load.batch() as f64, cell.images_per_s?)), is_serial),
            ),
        ),
    ];
    let keys: String = report
        .lanes
        .iter()
        .map(|info| format!("<li><i class=\"line {}\"></i>{}</li>", class(info.lane), label(info.lane)))
        .collect();
    let legend = format!("<ul class=\"legend\">{keys}</ul>");
    let mut text = format!(
        "<h2 class=\"page\">Latency and throughput</h2>\n<p class=\"quiet\">Whiskers are 95 % intervals.</p>\n{legend}\n<div class=\"figures\">\n"
    );
    for (caption, svg) in figures {
        text += &figure(caption, svg, "");
    }
    text += &figure("Payload against link, as predicted", payload_against_link(report), &crossovers(report));
    text += "</div>\n<h2 class=\"page\">Distributions of latency</h2>\n";
    let _ = writeln!(text, "{legend}\n<div class=\"figures\">");
    for load in distribution_loads(report) {
        let caption = format!("{load}");
        let svg = plot(
            &format!("share of requests that took at most so long, {load}"),
            &log("latency, ms"),
            &Axis { label: "share of requests", scale: Scale::Linear, ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0] },
            &distributions(report, load),
        );
        text += &figure(&caption, svg, "");
    }
    text + "</div>\n"
}

/// What a request of each lane would be on a kept connection of another link, by its bytes and the server's time for it;
/// for the smallest batch.
fn exchanges(report: &Report) -> Vec<(Lane, Exchange)> {
    let Some(&load) = tables::waterfall_loads(report).first() else { return Vec::new() };
    let exchange = |cell: &Cell| {
        Some(Exchange {
            handshakes: None,
            request_bytes: cell.request_bytes as u64,
            response_bytes: cell.response_bytes as u64,
            server: Duration::try_from_secs_f64(cell.server_ms()? / 1e3).ok()?,
        })
    };
    report.plain_cells().filter(|c| c.load == load).filter_map(|c| Some((c.lane, exchange(c)?))).collect()
}

/// What the same requests would take on links of other rates.
fn payload_against_link(report: &Report) -> Option<String> {
    let line = |(lane, exchange): &(Lane, Exchange)| {
        let point = |&mbit: &f64| {
            let bits = Some((mbit * 1e6) as u64);
            let link = LinkSpec { rtt: Duration::ZERO, up: bits, down: bits, ..LinkSpec::default() };
            Point { x: mbit, y: predict(&link, exchange).total_ms, interval: None }
        };
        Series {
            class: class(*lane),
            label: label(*lane),
            points: LINKS_MBIT.iter().map(point).collect(),
            marks: false,
        }
    };
    plot(
        "predicted latency by the rate of the link",
        &axis("link, Mbit/s both ways", Scale::Log),
        &axis("bytes on the link and server, ms", Scale::Log),
        &exchanges(report).iter().map(line).collect::<Vec<_>>(),
    )
}

/// What the prediction is made of, and between which lanes the order turns with the rate of the link.
fn crossovers(report: &Report) -> String {
    let exchanges = exchanges(report);
    if exchanges.is_empty() {
        return String::new();
    }
    let mut turns = String::new();
    let pairs = exchanges.iter().enumerate().flat_map(|(i, a)| exchanges[i + 1..].iter().map(move |b| (a, b)));
    for ((a, first), (b, second)) in pairs {
        let [few, many] = if first.request_bytes < second.request_bytes { [first, second] } else { [second, first] };
        let apart = many.request_bytes as f64 > FEWER_BYTES * few.request_bytes as f64;
        let rate = crossover(first, second).map(|bits| bits / 1e6).filter(|mbit| apart && *mbit <= MOST_MBIT);
        if let Some(mbit) = rate {
            let ahead = if few == first { a } else { b };
            let (a, b, ahead) = (label(*a), label(*b), label(*ahead));
            let _ = writeln!(turns, "<li>{a} and {b}: below {} Mbit/s {ahead} is ahead</li>", short(mbit));
        }
    }
    if !turns.is_empty() {
        turns = format!(
            "<details><summary>Where lanes change places</summary><ul class=\"quiet\">\n{turns}</ul></details>\n"
        );
    }
    format!(
        "<p class=\"quiet\">A request's bytes at the rate, and the server's time measured here. Round \
         trips, which are the same for all lanes on kept connections, are left out, and so is preprocessing on the \
         client.</p>\n{turns}"
    )
}

/// The smallest and largest batch, and all concurrent loads.
fn distribution_loads(report: &Report) -> Vec<Load> {
    let concurrent = report.settings.concurrency.iter().map(|&concurrency| Load::Concurrent { concurrency, batch: 1 });
    tables::waterfall_loads(report).into_iter().chain(concurrent).collect()
}

/// Cumulative distributions, from the histograms.
fn distributions(report: &Report, load: Load) -> Vec<Series> {
    let steps = |cell: &Cell| {
        let total: u64 = cell.histogram_us.iter().map(|(_, count)| count).sum();
        let (mut below, mut points) = (0, Vec::new());
        let at = |x: f64, y: u64| Point { x, y: y as f64 / total as f64, interval: None };
        for (us, count) in &cell.histogram_us {
            points.push(at(us / 1e3, below));
            below += count;
            points.push(at(us / 1e3, below));
        }
        points
    };
    let cells = report.plain_cells().filter(|cell| cell.load == load);
    cells
        .map(|cell| Series { class: class(cell.lane), label: label(cell.lane), points: steps(cell), marks: false })
        .collect()
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
            let (effect, more) = tables::decider(finding);
            let more = if more == NOTHING { String::new() } else { format!(" · {}", escape(&more)) };
            let claims = if finding.claims.len() == 1 { "claim" } else { "claims" };
            let _ = write!(
                text,
                "<br><span class=\"quiet\">{}{more}</span><details><summary>{} {claims}</summary><ul>",
                escape(&effect.replace('`', "")),
                finding.claims.len()
            );
            for judged in &finding.claims {
                let unit = judged.claim.metric.unit();
                let effect =
                    judged.effect.map_or(NOTHING.into(), |e| format!("{} {unit}", tables::signed(e.difference, 2)));
                let needs = judged
                    .needs
                    .map(|needs| format!("would take {} requests in {} blocks", needs.requests, needs.blocks));
                let more = needs
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

/// The interval below the value, and quieter.
fn value_with_interval(value: &str) -> String {
    match value.split_once(" (") {
        Some((value, interval)) => format!("{} <small>({}</small>", escape(value), escape(interval)),
        None => escape(value),
    }
}

/// Where the figures come from.
fn origin(report: &Report) -> String {
    let environment = &report.environment;
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let libraries: Vec<_> = environment.libraries.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let gpus = if environment.gpus.is_empty() { "none on this machine".into() } else { environment.gpus.join(", ") };
    let photographs: Vec<_> =
        report.photographs.iter().map(|p| format!("{} ({:.1} KB)", p.name, p.bytes as f64 / 1e3)).collect();
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
        ("Photographs", photographs.join(", ")),
        ("Seed", report.settings.seed.to_string()),
        ("Form", report.schema.clone()),
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
    use crate::report::{cell::ServerSide, fixture};

    #[test]
    fn the_page_needs_nothing_else_and_text_stays_text() {
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
    fn warnings_of_one_kind_stand_together() {
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

    /// Triton's count of a request's stay leaves out reading and writing it: the rest of the latency is not all the way's.
    #[test]
    fn a_count_of_the_stay_is_a_least() {
        let page = answer(&fixture::report());
        let card =
            |name: &str| page.split(&format!(">{name}</b>")).nth(1).unwrap().split("</div>").next().unwrap().to_owned();
        assert!(card("TRT HTTP").contains("class=\"share unknown\"") && card("TRT HTTP").contains(">at least "));
        assert!(card("ONNX HTTP").contains("class=\"share\"") && !card("ONNX HTTP").contains("at least"));
        assert!(card("JPEG HTTP").contains("time in the server unknown"));
    }

    /// Stock Triton tells no stage times: what it does not tell is one hatched piece that says what it holds.
    #[test]
    fn what_nobody_tells_is_hatched() {
        let page = Html.export(&fixture::report()).unwrap();
        let piece =
            page.split(">TRT HTTP</text>").nth(1).unwrap().split("<rect class=\"part unknown\"").nth(1).unwrap();
        let title = piece.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
        assert!(title.starts_with("unknown (network, receive, parse, gather, encode, together): "), "{title}");
        assert!(page.contains("rect.part.unknown { fill: url(#hatch); }") && page.contains("<pattern id=\"hatch\""));
    }

    #[test]
    fn lanes_change_places_with_the_rate_of_the_link() {
        let mut report = fixture::report();
        let onnx = report.cells[1].server.clone().unwrap();
        report.cells[0].server = Some(ServerSide { request_ms: onnx.request_ms * 2.0, ..onnx });
        let page = Html.export(&report).unwrap();
        assert!(page.contains("<figcaption>Payload against link, as predicted</figcaption><svg"));
        assert!(page.contains("<li>JPEG HTTP and ONNX HTTP: below "), "fewer bytes and more of the server's time");
        assert!(!page.contains("<li>ONNX HTTP and"), "the others send nearly the same bytes");
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
        report.conclude();
        assert!(Html.export(&report).unwrap().ends_with("</html>\n"));
    }
}
