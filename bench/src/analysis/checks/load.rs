//! Rules about the load: whether the server received the load that the result states.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::{
    analysis::summary,
    model::{
        cell::{Cell, OpenLoopFigures},
        lane::Lane,
        load::Load,
        warning::Severity,
    },
};

/// 99th percentile of the schedule's lag, in ms, from which on there is a warning.
pub const LAG_BOUND_MS: f64 = 1.0;
/// Mean number of requests in flight, divided by the concurrency, below which the concurrency was not reached.
pub(crate) const CONCURRENCY_REACHED: f64 = 0.95;

/// Whether the client fell behind its own schedule.
pub fn is_late(open: &OpenLoopFigures) -> bool {
    open.lag_ms.is_some_and(|[_, p99, _]| p99 >= LAG_BOUND_MS)
}

/// The client sent late.
pub const SCHEDULE_LAG: Rule = Rule {
    code: "schedule-lag",
    severity: Severity::Warning,
    meaning: "In an open loop, the client sent requests later than intended.",
    remedy: "The client cannot keep up with the rate: give it more cores or its own machine, or lower the rate.",
    imported: None,
    find: |evidence| {
        let found = evidence.cells().iter().filter_map(|cell| {
            let open = cell.open.as_ref().filter(|open| is_late(open) && open.schedule.waited == 0)?;
            let [_, p99, most] = open.lag_ms?;
            Some((cell.lane, cell.load, format!("p99 {p99:.1} ms, max {most:.1} ms")))
        });
        per_lane("requests were sent later than intended", found)
    },
};

/// Requests waited for others before they were sent.
pub const IN_FLIGHT_LIMIT: Rule = Rule {
    code: "in-flight-limit",
    severity: Severity::Warning,
    meaning: "In an open loop, requests waited because --max-in-flight requests were already in flight.",
    remedy: "Latency includes this wait. The server cannot keep up with the rate, or --max-in-flight is too low.",
    imported: None,
    find: |evidence| {
        let found = evidence.cells().iter().filter_map(|cell| {
            let schedule = cell.open.as_ref()?.schedule;
            let detail = || format!("{} of {} waited, {} unsent", schedule.waited, schedule.scheduled, schedule.unsent);
            (schedule.waited > 0 || schedule.unsent > 0).then(|| (cell.lane, cell.load, detail()))
        });
        per_lane("requests waited because too many were in flight", found)
    },
};

/// Fewer requests were in flight than workers.
pub const CONCURRENCY_NOT_REACHED: Rule = Rule {
    code: "concurrency-not-reached",
    severity: Severity::Warning,
    meaning: "On average, fewer requests were in flight than the load has workers.",
    remedy: "The workers spent time between requests: give the client more CPUs or its own machine.",
    imported: Some((Severity::Warning, "The figures include ramp and tail: measure a timed window without them.")),
    find: concurrency_not_reached,
};

fn concurrency_not_reached(evidence: &Evidence) -> Vec<Finding> {
    let measured = |cell: &Cell| Some((cell.lane, cell.load, in_flight(cell)?, cell.completed));
    let imported = |cell: &summary::Cell| Some((cell.lane, cell.load, littles_law(cell), cell.samples));
    let cells: Vec<(Lane, Load, f64, u64)> = match evidence.report {
        Some(report) => report.cells.iter().filter_map(measured).collect(),
        None => evidence.summary.cells.iter().filter_map(imported).collect(),
    };
    let found = cells.into_iter().filter_map(|(lane, load, in_flight, requests)| {
        let Load::Concurrent { concurrency, .. } = load else { return None };
        let reached = in_flight >= CONCURRENCY_REACHED * concurrency as f64;
        (!reached).then(|| (lane, load, format!("mean {in_flight:.1} over {requests} requests")))
    });
    per_lane("fewer requests were in flight than the load has workers", found)
}

/// Requests in flight on average, by Little's law (L = λW): their rate times their mean latency.
fn littles_law(cell: &summary::Cell) -> f64 {
    cell.images_per_s / cell.images() * cell.mean_ms / 1e3
}

/// Requests in flight on average, counted from the samples of a cell's windows.
///
/// A request that was still in flight when its window ended has no sample, so rate times mean latency is too low in a
/// window of few requests. Each window is therefore shortened by its longest latency at both ends: in the rest, every
/// request in flight has a sample, and all workers have begun even without a ramp. `None` if nothing is left of the
/// windows, or if requests failed, because failed requests have no samples.
pub(crate) fn in_flight(cell: &Cell) -> Option<f64> {
    if cell.failures.count > 0 {
        return None;
    }
    let (mut in_flight_us, mut length_us) = (0.0, 0.0);
    // Of a window without a completed request nothing is known: its requests may all have been in flight.
    for block in cell.blocks.iter().filter(|block| block.samples > 0) {
        let samples = block.first..block.first + block.samples;
        let starts_us = cell.samples.start_us.get(samples.clone())?;
        let latencies_us = cell.samples.latency_us.get(samples)?;
        let longest_us = latencies_us.iter().copied().fold(0.0, f64::max);
        let from_us = block.start_s * 1e6 + longest_us;
        let to_us = (block.start_s + block.wall_s) * 1e6 - longest_us;
        if from_us < to_us {
            let within = |(start, latency): (&f64, &f64)| ((start + latency).min(to_us) - start.max(from_us)).max(0.0);
            in_flight_us += starts_us.iter().zip(latencies_us).map(within).sum::<f64>();
            length_us += to_us - from_us;
        }
    }
    (length_us > 0.0).then(|| in_flight_us / length_us)
}
