//! Rules about the servers: their execution providers, their counters, their queues.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::rule::{Evidence, Finding, Rule, by_lane, per_lane};
use crate::{
    analysis::summary::Summary,
    model::{lane::Lane, load::Load, part::Part, report::Report, warning::Severity, words::list},
};

/// Queue time within these multiples of the batcher's delay is attributed to that delay.
const DELAY_RANGE: RangeInclusive<f64> = 0.9..=1.5;
/// Shortest wait that is reported as a batcher's delay, in ms.
const SHORTEST_DELAY_MS: f64 = 1.0;
/// If the waiting times of all lanes lie within this factor, they are one constant: the batcher's delay.
const CONSTANT: f64 = 1.2;

/// Several services run on one execution provider.
pub const SHARED_PROVIDER: Rule = Rule {
    code: "shared-provider",
    severity: Severity::Warning,
    meaning: "Lanes of different services run on the same execution provider.",
    remedy: "Do not compare backends by these lanes; use a machine that has the provider of each lane.",
    imported: None,
    find: shared_providers,
};

fn shared_providers(evidence: &Evidence) -> Vec<Finding> {
    let infos = evidence.report.map_or(&[][..], |report| &report.lanes);
    let mut by_provider: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for info in infos {
        if let Some(provider) = &info.effective_provider {
            by_provider.entry(provider).or_default().push(info);
        }
    }
    let shared = by_provider.into_iter().filter(|(_, infos)| infos.iter().any(|i| i.service != infos[0].service));
    shared
        .map(|(provider, infos)| {
            let lanes: Vec<_> = infos.iter().map(|info| info.lane).collect();
            let message =
                format!("{} all run on {provider}: they differ in transport, not in backend", list(lanes.clone()));
            Finding { lanes, message }
        })
        .collect()
}

/// The server's count of requests differs from the client's.
pub const COUNT_MISMATCH: Rule = Rule {
    code: "server-count-mismatch",
    severity: Severity::Error,
    meaning: "From idle to idle, the server's count of requests differs from what this run sent.",
    remedy: "Something else uses the server, or the metrics belong to another server: do not trust the server-side \
             times.",
    imported: None,
    find: |evidence| {
        let mismatches = evidence.cells().iter().filter_map(|cell| {
            let server = cell.server.as_ref()?;
            let counted = server.counted.filter(|&counted| counted != server.expected)?;
            Some((cell.lane, cell.load, format!("client {}, server {counted}", server.expected)))
        });
        per_lane("the server's count of requests differs from the client's", mismatches)
    },
};

/// The same for imported figures, which have no counts from idle to idle.
pub const COUNTERS_OUTSIDE_WINDOW: Rule = Rule {
    code: "counters-outside-window",
    severity: Severity::Error,
    meaning: "In imported figures, the server's counters and the latencies do not cover the same requests.",
    remedy: "The counters include warm-up or the load of another client: read them right before and right after the \
             measured requests.",
    imported: None,
    find: |evidence| {
        let cells = evidence.imported().into_iter().flat_map(|summary| &summary.cells);
        let found = cells.filter_map(|cell| {
            let counted = cell.server?.requests;
            let differs = counted != cell.samples as f64;
            differs.then(|| (cell.lane, cell.load, format!("{counted} counted, {} measured", cell.samples)))
        });
        per_lane("the server's counters do not cover exactly the measured requests", found)
    },
};

/// The server's counters could not be read.
pub const NO_COUNTERS: Rule = Rule {
    code: "no-server-counters",
    severity: Severity::Note,
    meaning: "The server's counters could not be read, so its times are unknown.",
    remedy: "Set the service's metrics flag to its Prometheus page.",
    imported: None,
    find: |evidence| {
        let missing = evidence.cells().iter().filter_map(|cell| Some((cell.lane, cell.server_missing.as_deref()?)));
        let finding = |(lane, reasons): (Lane, Vec<&str>)| Finding {
            lanes: vec![lane],
            message: format!("server-side times are unknown in {} cells: {}", reasons.len(), reasons[0]),
        };
        by_lane(missing).into_iter().map(finding).collect()
    },
};

/// With one request in flight the queue is empty, so a request that waits is held back by the batcher.
pub const QUEUE_EQUALS_DELAY: Rule = Rule {
    code: "queue-equals-delay",
    severity: Severity::Warning,
    meaning: "Single requests wait in the server for the batcher's max_queue_delay.",
    remedy: "That is the batcher's delay, not overhead of the server: set max_queue_delay to 0 to measure latency.",
    imported: Some((
        Severity::Warning,
        "That is the batcher's max_queue_delay, not overhead: look it up in the model's configuration, set it to 0 to \
         measure latency, and report queue time separately.",
    )),
    find: |evidence| match evidence.report {
        Some(report) => known_delays(report),
        None => inferred_delays(evidence.summary),
    },
};

/// Queue times that equal the delay in the model's configuration.
fn known_delays(report: &Report) -> Vec<Finding> {
    let serial = report.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. }));
    let found = serial.filter_map(|cell| {
        let info = report.lanes.iter().find(|info| info.lane == cell.lane)?;
        let delay_ms = info.max_queue_delay_us.filter(|&us| us > 0)? as f64 / 1e3;
        let queue_ms = cell.waterfall.as_ref()?.ms(Part::Queue)?;
        let waits = DELAY_RANGE.contains(&(queue_ms / delay_ms));
        waits.then(|| (cell.lane, cell.load, format!("{queue_ms:.2} ms, max_queue_delay {delay_ms:.2} ms")))
    });
    per_lane("single requests wait for a batch although no other request is in flight", found)
}

/// Waiting times that are the same in every lane, where no configuration is known.
fn inferred_delays(summary: &Summary) -> Vec<Finding> {
    let waiting = summary.lanes().into_iter().filter_map(|lane| Some((lane, lone_wait_ms(summary, lane)?)));
    let delays: Vec<(Lane, f64)> = waiting.collect();
    let smallest = delays.iter().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let largest = delays.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
    if delays.is_empty() || largest > CONSTANT * smallest {
        return Vec::new();
    }
    let message = format!(
        "single requests wait {smallest:.1} to {largest:.1} ms in the server in addition to computing, about the same \
         in every lane"
    );
    vec![Finding { lanes: delays.into_iter().map(|(lane, _)| lane).collect(), message }]
}

/// How long single requests of a lane wait in the server, in ms.
fn lone_wait_ms(summary: &Summary, lane: Lane) -> Option<f64> {
    let serial = summary.serial(lane);
    let queue_ms = serial.iter().find_map(|cell| cell.server?.queue_ms.filter(|&ms| ms >= SHORTEST_DELAY_MS));
    // Without a queue time: the time in the server outside compute grows with the bytes. If it falls instead, it
    // contains a delay that a larger batch does not have.
    queue_ms.or_else(|| {
        let (small, large) = (serial.first()?.server?, serial.get(1)?.server?);
        let waits = small.queue_ms.is_none() && small.waiting_ms() > 2.0 * large.waiting_ms();
        Some(small.waiting_ms()).filter(|&ms| waits && ms >= SHORTEST_DELAY_MS)
    })
}
