//! The tables of a report, free of any markup: the study's five with intervals, and what is needed to believe them.

use crate::{
    analysis::summary::Summary,
    model::{
        cell::Cell,
        connection::Policy,
        encoding::Encoding,
        estimate::Estimate,
        hypothesis::{Finding, Verdict},
        lane::Lane,
        load::Load,
        part::Part,
        report::{LaneDifference, Report},
        transport::Transport,
        waterfall::{Source, Waterfall},
    },
    report::{
        axes, explained,
        table::{NOTHING, Table, label, number, signed},
    },
};

/// All tables with something in them, in order.
pub(crate) fn tables(report: &Report) -> Vec<Table> {
    let serial =
        |title: &str, value: &dyn Fn(&Cell) -> Option<String>| by_load(report, title, serial_columns(report), value);
    let mut tables = vec![
        lanes(report),
        serial("Serial p50 latency (ms)", &|cell| Some(number(cell.latency_ms.as_ref()?.p50, 1))),
        charged(report),
        serial("Serial throughput (img/s)", &|cell| Some(number(cell.images_per_s?, 1))),
        speedups(report),
        serial("Server-side compute (ms for each request, by the server's counters)", &|cell| {
            Some(format!("{:.2}", cell.server.as_ref()?.compute_infer_ms))
        }),
    ];
    tables.extend(waterfalls(report));
    tables.push(concurrent(report));
    tables.extend([
        axes::open_loop(report),
        axes::connections(report),
        axes::payloads(report),
        axes::transports(report),
    ]);
    tables.extend(report.settings.link.map(|link| explained::table(&Summary::of("", report), &link)));
    for between in [Between::Servers, Between::Lanes] {
        let (latency, throughput) = ("p50 latency (ms)", "throughput (img/s)");
        tables.extend([
            differences(report, between, latency, 2, serial_columns(report)),
            differences(report, between, throughput, 1, concurrent_columns(report)),
            differences(report, between, latency, 2, open_columns(report)),
        ]);
    }
    tables.push(hypotheses(&report.hypotheses));
    tables.retain(|table| !table.columns.is_empty() && !table.rows.is_empty());
    tables
}

fn measured_lanes(report: &Report) -> impl Iterator<Item = Lane> {
    report.lanes.iter().map(|info| info.lane)
}

fn serial_columns(report: &Report) -> Vec<(String, Load)> {
    report.settings.batches.iter().map(|&batch| (format!("b={batch}"), Load::Serial { batch })).collect()
}

fn concurrent_columns(report: &Report) -> Vec<(String, Load)> {
    let load = |concurrency| Load::Concurrent { concurrency, batch: 1 };
    report.settings.concurrency.iter().map(|&n| (format!("conc={n}"), load(n))).collect()
}

/// The open loops that were measured.
fn open_columns(report: &Report) -> Vec<(String, Load)> {
    let mut loads: Vec<Load> =
        report.cells.iter().map(|cell| cell.load).filter(|load| matches!(load, Load::Open { .. })).collect();
    loads.sort_unstable();
    loads.dedup();
    loads.into_iter().map(|load| (load.to_string(), load)).collect()
}

/// A table of lanes by loads.
fn by_load(
    report: &Report,
    title: &str,
    columns: Vec<(String, Load)>,
    value: impl Fn(&Cell) -> Option<String>,
) -> Table {
    let cell = |lane, load| report.cell(lane, load).and_then(&value).unwrap_or_else(|| NOTHING.into());
    let row = |lane| (label(lane), columns.iter().map(|(_, load)| cell(lane, *load)).collect());
    let rows = measured_lanes(report).map(row).collect();
    Table::new(title, "Lane", columns.into_iter().map(|(name, _)| name).collect(), rows)
}

fn lanes(report: &Report) -> Table {
    let rows = report
        .lanes
        .iter()
        .map(|info| {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
            let cells = || report.cells.iter().filter(|cell| cell.lane == info.lane);
            let payload = cells().find(|cell| cell.load == Load::Serial { batch: 1 }).map_or(NOTHING.into(), |cell| {
                format!("{:.1} / {:.1}", cell.request_bytes as f64 / 1e3, cell.response_bytes as f64 / 1e3)
            });
            let connections = cells().map(|cell| cell.connections).max().unwrap_or(0);
            let failed: u64 = cells().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum();
            let row = [
                info.url.clone(),
                text(&info.server),
                text(&info.effective_provider),
                payload,
                connections.to_string(),
                failed.to_string(),
            ];
            (label(info.lane), row.to_vec())
        })
        .collect();
    let columns =
        ["Address", "Server", "Effective provider", "KB/image out / in", "TCP connections (most)", "Failed requests"];
    Table::new("Lanes", "Lane", columns.map(str::to_owned).to_vec(), rows)
}

fn concurrent(report: &Report) -> Table {
    by_load(report, "Concurrent throughput (batch=1, img/s)", concurrent_columns(report), |cell| {
        Some(number(cell.images_per_s?, 1))
    })
}

/// The first table again with the work that tensor lanes leave to the client.
fn charged(report: &Report) -> Table {
    let title = "Serial p50 latency with client preprocessing charged (ms)";
    let columns = if report.client_preprocess_ms.is_some() { serial_columns(report) } else { Vec::new() };
    let table = by_load(report, title, columns, |cell| {
        Some(number(cell.charged_p50_ms.or_else(|| Some(cell.latency_ms.as_ref()?.p50))?, 1))
    });
    table.note(format!(
        "The JPEG lane decodes, resizes and normalises on the server; for the tensor lanes the client does, in {} ms for \
         each image here.",
        report.client_preprocess_ms.map_or(NOTHING.into(), |ms| number(ms, 2))
    ))
}

fn speedups(report: &Report) -> Table {
    let rows: Vec<_> = [("ONNX gRPC/HTTP", "onnx"), ("TRT gRPC/HTTP", "trt")]
        .into_iter()
        .filter(|(_, service)| report.speedups.iter().any(|speedup| speedup.service == *service))
        .map(|(name, service)| {
            let value = |&batch: &usize| {
                let found = report.speedups.iter().find(|s| s.service == service && s.batch == batch);
                found.map_or(NOTHING.into(), |s| {
                    format!("{:.2}× ({:.2}–{:.2})", s.speedup.value, s.speedup.low, s.speedup.high)
                })
            };
            (name.to_owned(), report.settings.batches.iter().map(value).collect())
        })
        .collect();
    let columns = report.settings.batches.iter().map(|batch| format!("b={batch}")).collect();
    Table::new("gRPC speedup vs HTTP (same service, p50; >1.00× = gRPC faster)", "Pair", columns, rows)
}

/// The loads whose waterfalls are shown: the smallest and the largest batch, and open loops.
pub(crate) fn waterfall_loads(report: &Report) -> Vec<Load> {
    let mut loads: Vec<Load> = serial_columns(report).into_iter().map(|(_, load)| load).collect();
    if loads.len() > 2 {
        loads.drain(1..loads.len() - 1);
    }
    loads.extend(open_columns(report).into_iter().map(|(_, load)| load));
    loads
}

/// The lanes' waterfalls under a load.
pub(crate) fn waterfalls_at(report: &Report, load: Load) -> Vec<(Lane, &Waterfall)> {
    measured_lanes(report).filter_map(|lane| Some((lane, report.cell(lane, load)?.waterfall.as_ref()?))).collect()
}

/// Where the time of a request goes, part by part.
fn waterfalls(report: &Report) -> Vec<Table> {
    let table = |load: Load| {
        let found = waterfalls_at(report, load);
        let time = |waterfall: &Waterfall, part: Part| match waterfall.parts.iter().find(|time| time.part == part) {
            Some(time) => time.ms.map_or_else(|| "unknown".to_owned(), shown),
            None => NOTHING.into(),
        };
        let row = |part: Part| {
            let place = format!("{:?}", part.location()).to_lowercase();
            let name =
                if part == Part::Unknown { "unknown, together".into() } else { format!("{} ({place})", part.name()) };
            (name, found.iter().map(|(_, waterfall)| time(waterfall, part)).collect::<Vec<_>>())
        };
        let parts = Part::ALL.into_iter().filter(|part| match part {
            Part::Unknown => found.iter().any(|(_, waterfall)| waterfall.source != Source::StageTimes),
            Part::Tls => found.iter().any(|(_, waterfall)| waterfall.ms(Part::Tls).is_some()),
            _ => true,
        });
        let of = |value: fn(&Waterfall) -> f64| found.iter().map(|(_, w)| format!("{:.2}", value(w))).collect();
        let sums = [("sum of the parts".to_owned(), of(|w| w.sum_ms)), ("measured".to_owned(), of(|w| w.latency_ms))];
        let rows = parts.map(row).chain(sums).collect();
        let columns = found.iter().map(|(lane, _)| label(*lane)).collect();
        let title = format!("Where the time of a request goes, {load} (mean, ms)");
        Table::new(&title, "Part", columns, rows).note(
            "Server parts by its stage times, or by Triton's statistics where it sends none; `network` is both ways together; \
             behind a slow link the upload is in `receive`.",
        )
    };
    waterfall_loads(report).into_iter().map(table).collect()
}

/// Small times need more digits; a single block has no interval.
fn shown(ms: Estimate) -> String {
    if ms.n > 1 { number(ms, 2) } else { format!("{:.2}", ms.value) }
}

/// What sets the two sides of a difference apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// The same lane of two servers.
    Servers,
    /// Two lanes of one server.
    Lanes,
}

/// Lanes in pairs under some loads, each pair once for every variant of connections and payload.
fn differences(report: &Report, between: Between, what: &str, digits: usize, columns: Vec<(String, Load)>) -> Table {
    let variant = |d: &LaneDifference| (d.a, d.b, d.connection, d.payloads, d.transports);
    let of = |d: &&LaneDifference| {
        (d.a.peer != d.b.peer) == (between == Between::Servers) && columns.iter().any(|(_, load)| *load == d.load)
    };
    let mut pairs: Vec<_> = report.differences.iter().filter(of).map(variant).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let cell = |pair, load: Load| {
        let found = report.differences.iter().find(|d| (variant(d), d.load) == (pair, load));
        found.map_or(NOTHING.into(), |d| {
            let text = signed(d.difference.difference, digits);
            let text = if d.difference.paired { text } else { format!("{text} unpaired") };
            if d.difference.is_clear() { format!("{text} *") } else { text }
        })
    };
    let row = |pair: (Lane, Lane, Policy, [Option<Encoding>; 2], [Transport; 2])| {
        let name = format!("{} − {}{}", label(pair.0), label(pair.1), axes::variant(report, pair.2, pair.3, pair.4));
        (name, columns.iter().map(|(_, load)| cell(pair, *load)).collect())
    };
    let rows = pairs.into_iter().map(row).collect();
    let title = match between {
        Between::Servers => {
            format!("The same lane of two servers: differences in {what}, paired over interleaved blocks")
        }
        Between::Lanes => format!("Differences in {what}, paired over interleaved blocks"),
    };
    Table::new(&title, "Pair", columns.iter().map(|(name, _)| name.clone()).collect(), rows).note(
        "* The interval leaves out 0. Each stands alone: of 20 pairs that do not differ, one is expected to have a star.",
    )
}

/// The verdicts, each with the claim that decides it.
fn hypotheses(findings: &[Finding]) -> Table {
    let row = |finding: &Finding| {
        let count = |verdict: Verdict| finding.claims.iter().filter(|claim| claim.verdict == verdict).count();
        let counts = [Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive]
            .map(|verdict| (count(verdict), verdict))
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, verdict)| format!("{count} {}", verdict.name()))
            .collect::<Vec<_>>();
        let (effect, settle) = decider(finding);
        let row = [finding.verdict.name().to_owned(), counts.join(", "), effect, settle];
        // A claim is code.
        let mark = if finding.name == "user" { "`" } else { "" };
        (format!("{}: {mark}{}{mark}", finding.name, finding.statement), row.to_vec())
    };
    let columns =
        ["Verdict", "Claims", "Deciding claim: left − right", "What would settle it"].map(str::to_owned).to_vec();
    Table::new("Hypotheses", "Hypothesis", columns, findings.iter().map(row).collect())
}

/// The claim that decides a hypothesis with its effect, and what would settle it.
pub(crate) fn decider(finding: &Finding) -> (String, String) {
    let decider = finding.claims.iter().find(|claim| claim.verdict == finding.verdict);
    let effect = decider.map_or(NOTHING.to_owned(), |judged| {
        let effect = judged.effect.map_or(String::new(), |effect| {
            format!(": {} {}", signed(effect.difference, 2), judged.claim.metric.unit())
        });
        format!("`{}`{effect}", judged.claim)
    });
    let needs = decider
        .and_then(|judged| judged.needs)
        .map(|needs| format!("{} requests for each lane in {} blocks", needs.requests, needs.blocks));
    let settle = needs
        .or_else(|| finding.reason.clone())
        .or_else(|| decider.and_then(|judged| judged.reason.clone()))
        .unwrap_or_else(|| NOTHING.into());
    (effect, settle)
}

/// How far the outputs agree, in a sentence; `None` where none were compared.
pub(crate) fn outputs(report: &Report) -> Option<String> {
    let pairs = &report.outputs.pairs;
    if pairs.is_empty() {
        return None;
    }
    let agree = pairs.iter().filter(|pair| pair.agree).count();
    let relative = pairs
        .iter()
        .filter_map(|p| Some(p.max_abs_difference? / p.scale))
        .filter(|r| r.is_finite())
        .fold(0.0, f64::max);
    let cosine = pairs.iter().filter_map(|p| p.min_cosine).fold(1.0, f64::min);
    Some(format!(
        "Outputs: {agree} of {} pairs of lanes agree (largest difference {relative:.1e} of the largest element, tolerance \
         {:.0e}; smallest cosine {cosine:.6}).",
        pairs.len(),
        report.outputs.tolerance
    ))
}
