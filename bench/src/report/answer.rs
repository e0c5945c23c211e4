//! The answer of a run in a few lines for the terminal: where the time goes, what is fastest, what stays open.

use crate::{
    analysis::{checks::client::alike, claims::difference},
    model::{
        cell::Cell, estimate::Statistic, hypothesis::Verdict, load::Load, metric::Metric, part::Part,
        protocol::Protocol, report::Report, warning::Severity, waterfall::Waterfall, words::list,
    },
    report::{accuracy, table::label},
};

/// Most lines.
pub const MOST_LINES: usize = 12;
/// Most characters of a line.
const WIDTH: usize = 80;
/// Most lanes that are shown.
const MOST_LANES: usize = 5;

/// Time on the way from the client to the server's model and back.
const TRANSPORT: [Part; 6] = [Part::Connect, Part::Tls, Part::Send, Part::Network, Part::Receive, Part::Download];

/// The answer, in at most [`MOST_LINES`] lines.
pub fn answer(report: &Report) -> String {
    let mut lines = vec![head(report)];
    let loads = || report.plain_cells().map(|cell| cell.load);
    if let Some(load) = loads().find(|load| *load == Load::Serial { batch: 1 }).or_else(|| loads().next()) {
        let cells: Vec<&Cell> = report.plain_cells().filter(|cell| cell.load == load).collect();
        lines.push(format!("Mean time of a request, {load}:"));
        lines.extend(cells.iter().take(MOST_LANES).map(|cell| lane(cell)));
        let hidden = cells.len().saturating_sub(MOST_LANES);
        if hidden > 0 {
            lines.push(format!("  and {hidden} more lanes in report.md"));
        }
        lines.extend(client(&cells));
        lines.extend(protocols(report));
        let payload = |cell: &Cell| cell.payload.map(|payload| payload.to_string());
        lines.extend(fastest(report, load, "payload", payload));
        lines.extend(accuracy::lines(report, load));
        lines.extend(fastest(report, load, "connection", |cell| Some(cell.connection.to_string())));
    }
    let open = open_questions(report);
    let room = MOST_LINES.saturating_sub(lines.len() + usize::from(open.is_some()));
    lines.extend(decided_claims(report).take(room));
    lines.extend(open);
    lines.truncate(MOST_LINES);
    lines.into_iter().map(|line| line.chars().take(WIDTH).collect::<String>() + "\n").collect()
}

/// What ran, and whether to trust it.
fn head(report: &Report) -> String {
    let count = |severity| report.warnings.iter().filter(|warning| warning.severity == severity).count();
    let findings = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
    let findings = list(findings);
    let trust = if findings.is_empty() { "no warnings".into() } else { format!("read first: {findings} in report.md") };
    format!("{}: {} requests failed; {trust}", report.settings.model, report.failed())
}

/// A lane's time, and the shares of compute and transport.
fn lane(cell: &Cell) -> String {
    let name = label(cell.lane);
    let Some(latency) = &cell.latency_ms else { return format!("  {name}: no request was answered") };
    let Some(waterfall) = &cell.waterfall else { return format!("  {name}: {:.1} ms", latency.mean.value) };
    let compute = share(waterfall, &[Part::Infer]).map_or("unknown".into(), |text| text);
    let transport = share(waterfall, &TRANSPORT).unwrap_or_else(|| "unknown".into());
    format!("  {name:<10} {:>8.1} ms: compute {compute}, transport {transport}", waterfall.latency_ms)
}

/// The share of parts in the latency with its interval; `None` if one of the necessary parts is unknown.
fn share(waterfall: &Waterfall, parts: &[Part]) -> Option<String> {
    let known = |part: &Part| waterfall.parts.iter().find(|time| time.part == *part);
    let mut sums = [0.0; 3];
    for time in parts.iter().filter_map(known) {
        let ms = time.ms?;
        for (sum, value) in sums.iter_mut().zip([ms.value, ms.low, ms.high]) {
            *sum += value / waterfall.latency_ms * 100.0;
        }
    }
    let [value, low, high] = sums;
    Some(format!("{value:.0} % ({low:.0}–{high:.0})"))
}

/// What the client itself takes of these times, if that is not alike for the forms of requests.
fn client(cells: &[&Cell]) -> Option<String> {
    let mut costs: Vec<(&str, f64)> = Vec::new();
    for cell in cells {
        let name = match Protocol::of(cell.lane) {
            Protocol::Jpeg => "JPEG",
            Protocol::KserveHttp => "HTTP",
            Protocol::KserveGrpc => "gRPC",
        };
        if let Some(ms) = cell.client_ms.filter(|_| !costs.iter().any(|(other, _)| *other == name)) {
            costs.push((name, ms.value));
        }
    }
    let least = costs.iter().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    if costs.iter().all(|(_, ms)| alike(*ms, least)) {
        return None;
    }
    let costs = costs.iter().map(|(name, ms)| format!("{name} {ms:.2} ms"));
    Some(format!("Of this at most the client's: {}", costs.collect::<Vec<_>>().join(", ")))
}

/// gRPC against HTTP, a line for each service, at the smallest batch.
fn protocols(report: &Report) -> Vec<String> {
    let smallest = report.speedups.iter().map(|speedup| speedup.batch).min();
    let lines = report.speedups.iter().filter(|speedup| Some(speedup.batch) == smallest).map(|found| {
        let ratio = found.speedup;
        let verdict = match ratio {
            r if r.low > 1.0 => "gRPC is faster",
            r if r.high < 1.0 => "HTTP is faster",
            _ => "undecided",
        };
        let numbers = format!("{:.2}×, {:.2}–{:.2}", ratio.value, ratio.low, ratio.high);
        format!("Protocol, {}: {verdict} (HTTP / gRPC {numbers})", found.service)
    });
    lines.collect()
}

/// The fastest value of an axis that the run varied, on the first lane that has several, and whether that is decided.
fn fastest(report: &Report, load: Load, axis: &str, value: impl Fn(&Cell) -> Option<String>) -> Option<String> {
    let p50 = |cell: &Cell| cell.latency_ms.as_ref().map(|latency| latency.p50.value);
    let varied = |lane| {
        let cells = report.cells.iter().filter(|cell| (cell.lane, cell.load) == (lane, load) && p50(cell).is_some());
        let mut once: Vec<&Cell> = Vec::new();
        for cell in cells {
            if !once.iter().any(|other| value(other) == value(cell)) {
                once.push(cell);
            }
        }
        once.sort_by(|a, b| p50(a).unwrap_or(f64::MAX).total_cmp(&p50(b).unwrap_or(f64::MAX)));
        (once.len() > 1).then_some(once)
    };
    let cells = report.lanes.iter().find_map(|info| varied(info.lane))?;
    let [first, second, ..] = cells[..] else { return None };
    let compared = difference(second, first, Metric::Latency(Statistic::Median), 1.0, &report.settings);
    let decided = compared.is_some_and(|d| d.is_significant() && d.difference.low > 0.0);
    let times: Vec<String> =
        cells.iter().filter_map(|cell| Some(format!("{} {:.1} ms", value(cell)?, p50(cell)?))).collect();
    let verdict = if decided { "the first is fastest" } else { "the first two are undecided" };
    let line = |shown: usize| {
        let rest = if shown < times.len() { ", …" } else { "" };
        format!("Best {axis} ({}): {}{rest}; {verdict}", label(first.lane), times[..shown].join(", "))
    };
    // The slowest are left out where the line has no room for all; they are in the tables.
    (2..=times.len())
        .rev()
        .map(line)
        .find(|line| line.chars().count() <= WIDTH)
        .or_else(|| times.get(..2).map(|_| line(2)))
}

/// The verdicts on the user's own claims.
fn decided_claims(report: &Report) -> impl Iterator<Item = String> {
    let claims = report.hypotheses.iter().filter(|finding| finding.name == "user");
    let decided = claims.filter(|finding| finding.verdict != Verdict::Inconclusive);
    decided.map(|finding| format!("Claim {}: {}", finding.verdict.name(), finding.statement))
}

/// The hypotheses without a verdict, and what the first needs.
fn open_questions(report: &Report) -> Option<String> {
    let open = || report.hypotheses.iter().filter(|finding| finding.verdict == Verdict::Inconclusive);
    let names = list(open().map(|finding| if finding.name == "user" { &finding.statement } else { &finding.name }));
    if names.is_empty() {
        return None;
    }
    let needs =
        open().flat_map(|finding| &finding.claims).filter_map(|claim| claim.needs).map(|needs| needs.requests).max();
    let needs = needs.map_or(String::new(), |n| format!("; up to {n} requests for each lane would decide"));
    Some(format!("Undecided: {names}{needs}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture,
        model::{encoding::Encoding, estimate::Estimate, lane::Lane},
    };

    #[test]
    fn the_answer_fits_a_terminal() {
        let text = answer(&fixture::report());
        assert!(text.lines().count() <= MOST_LINES && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_the_client_takes_is_stated_where_it_differs() {
        let mut report = fixture::report();
        let mut line = |grpc_ms: f64| {
            for cell in &mut report.cells {
                let grpc = Protocol::of(cell.lane) == Protocol::KserveGrpc;
                let ms = if grpc { grpc_ms } else { 0.16 };
                cell.client_ms = Some(Estimate::new(ms, ms, ms, 20));
            }
            let text = answer(&report);
            assert!(text.lines().count() <= MOST_LINES, "{text}");
            text.lines().find(|line| line.contains("client")).map(str::to_owned)
        };
        assert_eq!(line(0.17), None);
        let expected = "Of this at most the client's: JPEG 0.16 ms, HTTP 0.16 ms, gRPC 0.45 ms";
        assert_eq!(line(0.45).as_deref(), Some(expected));
    }

    #[test]
    fn a_decided_claim_is_answered_as_far_as_there_is_room() {
        let mut report = fixture::report();
        let mut finding = report.hypotheses[0].clone();
        finding.name = "user".into();
        finding.statement = "p50(jpeg) < p50(onnx-http) @ batch=1".into();
        finding.verdict = Verdict::Refuted;
        report.hypotheses.extend(vec![finding; MOST_LINES]);
        report.speedups.clear();
        let text = answer(&report);
        assert_eq!(text.lines().count(), MOST_LINES, "{text}");
        assert!(text.contains("\nClaim refuted: p50(jpeg) < p50(onnx-http) @ batch=1\n"), "{text}");
        assert!(text.lines().last().is_some_and(|line| line.starts_with("Undecided: ")), "{text}");
    }

    #[test]
    fn the_verdict_about_payloads_is_not_cut_off() {
        let mut report = fixture::report();
        let mut cells = Vec::new();
        for (payload, times) in [(Encoding::Jpeg, 1.0), (Encoding::JpegBase64, 3.0), (Encoding::Jpeg224, 2.0)] {
            for mut cell in report.cells.iter().filter(|cell| cell.lane == Lane::JPEG).cloned() {
                cell.payload = Some(payload);
                if let Some(latency) = &mut cell.latency_ms {
                    latency.p50.value *= times;
                }
                cells.push(cell);
            }
        }
        report.cells = cells;
        let text = answer(&report);
        let line = text.lines().find(|line| line.starts_with("Best payload")).unwrap();
        assert!(line.starts_with("Best payload (JPEG HTTP): jpeg ") && line.contains(", jpeg-224 "), "{line}");
        assert!(line.contains(" ms, …; the first") && !line.contains("base64"), "{line}");
    }

    #[test]
    fn an_empty_report_has_an_answer() {
        let mut report = fixture::report();
        report.cells.clear();
        report.speedups.clear();
        assert!(answer(&report).starts_with("resnet18: 0 requests failed"));
    }
}
