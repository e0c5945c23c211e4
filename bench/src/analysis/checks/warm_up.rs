//! Rules about first requests: engine builds, cold starts, warm-up that did not become steady.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::{
    analysis::summary::{self, Summary},
    model::{cell::Cell, lane::Lane, load::Load, warning::Severity},
};

/// A first sample above this multiple of its cell's median, and the block's largest, is a cold start.
const COLD_SAMPLE_FACTOR: f64 = 3.0;
/// A first request of the warm-up above this multiple of its last ones is a cold start.
const COLD_REQUEST_FACTOR: u64 = 3;
/// Both lanes of a service compute the same: a mean compute time above this multiple of the other's includes a cold
/// call.
const COLD_MEAN_FACTOR: f64 = 2.0;
/// Above this multiple it includes an engine build.
const BUILD_FACTOR: f64 = 10.0;
/// A largest latency above this multiple of the median is an outlier...
const OUTLIER_FACTOR: f64 = 3.0;
/// ...if the 95th percentile is below this multiple of it, so that only a few requests are slow.
const OUTLIER_P95_FACTOR: f64 = 2.0;

/// The server's mean time cannot be that of the measured requests.
pub const ENGINE_BUILD: Rule = Rule {
    code: "engine-build-in-window",
    severity: Severity::Error,
    meaning: "The server's mean compute time is longer than the measured requests allow.",
    remedy: "An engine was built, or other requests ran, while the counters were running: warm up every shape before \
             measuring.",
    imported: Some((
        Severity::Error,
        "An engine was built while the counters were running: build every profile before the lane is ready, warm up \
         every shape, and read the counters right before and right after the measured requests.",
    )),
    find: engine_builds,
};

fn engine_builds(evidence: &Evidence) -> Vec<Finding> {
    let message = "the server's compute time cannot be that of the measured requests";
    match evidence.report {
        Some(report) => per_lane(message, report.cells.iter().filter_map(mean_above_slowest)),
        None => {
            let found = evidence.summary.cells.iter().filter_map(|cell| {
                let (server, against) = (cell.server?, foreign_compute(evidence.summary, cell)?);
                Some((cell.lane, cell.load, format!("mean {:.1} ms, {against}", server.compute_ms)))
            });
            per_lane(message, found)
        }
    }
}

/// A mean in the server above the slowest request that the client saw.
fn mean_above_slowest(cell: &Cell) -> Option<(Lane, Load, String)> {
    let (mean, max) = (cell.server.as_ref()?.compute_infer_ms, cell.latency_ms.as_ref()?.max);
    let detail = || format!("mean compute {mean:.1} ms, slowest request {max:.1} ms");
    (mean > max).then(|| (cell.lane, cell.load, detail()))
}

/// Why a cell's server times cannot be those of the measured requests: the server's mean is above the client's, or far
/// above that of the same model on the service's other lane. `None` if they can be.
pub fn foreign_compute(summary: &Summary, cell: &summary::Cell) -> Option<String> {
    let server = cell.server?;
    match cell.max_ms {
        Some(max) if server.request_ms > max => Some(format!("the client's largest is {max:.1} ms")),
        _ if !cell.server_is_plausible() => Some(format!("the client's mean is {:.1} ms", cell.mean_ms)),
        _ => above_other_lane(summary, cell, BUILD_FACTOR)
            .map(|(other, ms)| format!("{ms:.1} ms for the same model on {other}")),
    }
}

/// The service's other lane and its mean compute time in ms, if the cell's is more than `factor` times that.
fn above_other_lane(summary: &Summary, cell: &summary::Cell, factor: f64) -> Option<(Lane, f64)> {
    let other = Lane::ALL.into_iter().find(|l| *l != cell.lane && l.service() == cell.lane.service())?;
    let compute_ms = summary.cell(other, cell.load)?.server?.compute_ms;
    (cell.server?.compute_ms > factor * compute_ms).then_some((other, compute_ms))
}

/// The first request includes a cold start.
pub const COLD_START: Rule = Rule {
    code: "cold-start",
    severity: Severity::Warning,
    meaning: "The first measured request was far slower than the rest; in imported figures, one lane's mean compute \
              time is far above that of the same model on the other lane.",
    remedy: "Something was still warming up (an engine build, a cache): raise --warmup.",
    imported: Some((
        Severity::Warning,
        "The lane that ran first includes the cold start: warm up every shape, and interleave the lanes in random \
         order.",
    )),
    find: |evidence| match evidence.report {
        Some(report) => {
            let message = "the first measured request was far slower than the rest";
            per_lane(message, report.cells.iter().filter_map(cold_sample))
        }
        None => {
            let message = "the server's mean compute time includes a cold call";
            per_lane(message, evidence.summary.cells.iter().filter_map(|cell| cold_mean(evidence.summary, cell)))
        }
    },
};

/// A block's first sample that is its slowest by far.
fn cold_sample(cell: &Cell) -> Option<(Lane, Load, String)> {
    let median_us = cell.latency_ms.as_ref()?.p50.value * 1e3;
    let first = cell.blocks.iter().filter(|block| block.samples > 1).find_map(|block| {
        let samples = cell.samples.latency_us.get(block.first..block.first + block.samples)?;
        let largest = samples.iter().copied().fold(0.0, f64::max);
        (samples[0] >= largest && samples[0] > COLD_SAMPLE_FACTOR * median_us).then_some(samples[0])
    })?;
    Some((cell.lane, cell.load, format!("{:.1} ms, p50 {:.1} ms", first / 1e3, median_us / 1e3)))
}

/// A mean compute time well above that of the same model on the other lane: the lane that ran first includes the cold
/// start.
fn cold_mean(summary: &Summary, cell: &summary::Cell) -> Option<(Lane, Load, String)> {
    let server = cell.plausible_server()?;
    let (other, ms) = above_other_lane(summary, cell, COLD_MEAN_FACTOR)?;
    let (mean, n) = (server.compute_ms, server.requests);
    let excess = (mean - ms) * n;
    let detail = || format!("mean {mean:.2} ms, {ms:.2} ms on {other}: {excess:.0} ms more in {n} requests");
    (mean <= BUILD_FACTOR * ms).then(|| (cell.lane, cell.load, detail()))
}

/// One request far slower than the rest, where the order of the samples is lost.
pub const OUTLIER: Rule = Rule {
    code: "outlier",
    severity: Severity::Warning,
    meaning: "In imported figures, single requests were far slower than the rest.",
    remedy: "It may have been the first one (a cold start): keep the samples in their order to find out.",
    imported: None,
    find: |evidence| {
        let cells = evidence.imported().into_iter().flat_map(|summary| &summary.cells);
        let found = cells.filter_map(|cell| {
            let (max, p95) = (cell.max_ms?, cell.p95_ms?);
            let lone = max > OUTLIER_FACTOR * cell.p50_ms && p95 < OUTLIER_P95_FACTOR * cell.p50_ms;
            lone.then(|| (cell.lane, cell.load, format!("largest {max:.0} ms, p95 {p95:.0} ms")))
        });
        per_lane("single requests were far slower than the rest", found)
    },
};

/// Latency was still changing when the measurement began.
pub const UNSTEADY: Rule = Rule {
    code: "unsteady",
    severity: Severity::Warning,
    meaning: "Warm-up reached --max-warmup before latency was steady.",
    remedy: "Raise --max-warmup, or find out what still changes.",
    imported: None,
    find: |evidence| {
        let unsteady = evidence.cells().iter().filter(|cell| cell.warm_up.steady == Some(false));
        let found = unsteady.map(|cell| (cell.lane, cell.load, format!("{} sent", cell.warm_up.sent)));
        per_lane("warm-up ended before latency was steady", found)
    },
};

/// The warm-up contains a cold start.
pub const COLD_START_IN_WARM_UP: Rule = Rule {
    code: "cold-start-in-warm-up",
    severity: Severity::Note,
    meaning: "The first request of the warm-up was far slower than the last ones.",
    remedy: "The figures do not include the warm-up. Expect such a request after every start of the server.",
    imported: None,
    find: |evidence| {
        let found = evidence.cells().iter().filter_map(|cell| {
            let (first, last) = cell.warm_up.first_us.zip(cell.warm_up.last_us)?;
            let ms = |us: u64| us as f64 / 1e3;
            let detail = || format!("{:.1} ms, then {:.1} ms", ms(first), ms(last));
            (first > COLD_REQUEST_FACTOR * last).then(|| (cell.lane, cell.load, detail()))
        });
        per_lane("the first request of the warm-up was far slower than the last ones", found)
    },
};
