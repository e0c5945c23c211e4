//! Completes a report from its cells: differences, speedups, verdicts, warnings.

use crate::{
    analysis::{
        capacity::{capacities, goodput},
        checks,
        claims::{self, difference},
    },
    model::{
        cell::Cell,
        estimate::Statistic,
        hypothesis::Finding,
        lane::Lane,
        load::Load,
        metric::Metric,
        report::{LaneDifference, Report, Speedup},
    },
};

/// Completes a report from its cells, whose samples must be loaded. `findings` come before those on the user's hypotheses.
pub fn conclude(report: &mut Report, findings: Vec<Finding>) {
    let (bound, seed) = (report.settings.bound_ms, report.settings.seed);
    for cell in &mut report.cells {
        cell.goodput_per_s = bound.and_then(|bound| goodput(cell, bound, seed));
    }
    report.capacities = capacities(report);
    report.differences = lane_differences(report);
    report.speedups = serial_speedups(report);
    report.hypotheses = findings.into_iter().chain(claims::judge(report)).collect();
    report.warnings = checks::judge(report);
}

fn lane_differences(report: &Report) -> Vec<LaneDifference> {
    let mut differences = Vec::new();
    for (i, a) in report.cells.iter().enumerate() {
        for b in report.cells[i + 1..].iter().filter(|b| comparable(report, a, b)) {
            let (a, b) = if a.lane < b.lane { (a, b) } else { (b, a) };
            let metric = match a.load {
                Load::Serial { .. } | Load::Open { .. } => Metric::Latency(Statistic::Median),
                Load::Concurrent { .. } => Metric::Throughput,
            };
            let difference = difference(a, b, metric, 1.0, &report.settings);
            differences.extend(difference.map(|difference| LaneDifference {
                load: a.load,
                connection: a.connection,
                payloads: [a.payload, b.payload],
                transports: [a.transport, b.transport],
                metric,
                a: a.lane,
                b: b.lane,
                difference,
            }));
        }
    }
    differences.sort_by_key(|difference| (difference.load, difference.a, difference.b));
    differences
}

/// Whether two cells differ only in the lane, or are the same lane of two servers: payload and transport are equal, or
/// each is the first of its lane.
fn comparable(report: &Report, a: &Cell, b: &Cell) -> bool {
    let first = |cell: &Cell| {
        let same = |c: &&Cell| (c.lane, c.load, c.connection) == (cell.lane, cell.load, cell.connection);
        report
            .cells
            .iter()
            .find(same)
            .is_some_and(|first| (first.payload, first.transport) == (cell.payload, cell.transport))
    };
    a.lane != b.lane
        && (a.lane.peer == b.lane.peer || a.lane.kind == b.lane.kind)
        && (a.load, a.connection) == (b.load, b.connection)
        && ((a.payload, a.transport) == (b.payload, b.transport) || first(a) && first(b))
}

/// gRPC's speedup over HTTP in the serial cells, paired like every difference.
fn serial_speedups(report: &Report) -> Vec<Speedup> {
    let pairs = [(Lane::ONNX_HTTP, Lane::ONNX_GRPC), (Lane::TRT_HTTP, Lane::TRT_GRPC)];
    let speedup = |(http, grpc): (Lane, Lane), batch| {
        let load = Load::Serial { batch };
        let found = report.differences.iter().find(|d| (d.a, d.b, d.load) == (http, grpc, load))?;
        Some(Speedup { service: http.service().to_owned(), batch, speedup: found.difference.ratio? })
    };
    pairs
        .into_iter()
        .flat_map(|pair| report.settings.batches.iter().filter_map(move |&batch| speedup(pair, batch)))
        .collect()
}
