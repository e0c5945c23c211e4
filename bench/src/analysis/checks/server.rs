//! Rules about the servers: what they run on, what they counted, how long they let requests wait.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::rule::{Evidence, Finding, Rule, by_lane, per_lane};
use crate::{
    analysis::summary::Summary,
    model::{lane::Lane, load::Load, part::Part, report::Report, warning::Severity, words::list},
};

/// Queue time between these multiples of the batcher's delay is that delay.
const DELAY_RANGE: RangeInclusive<f64> = 0.9..=1.5;
/// Waiting below this is not a batcher's delay worth a warning, in ms.
const SHORTEST_DELAY_MS: f64 = 1.0;
/// Waiting times of all lanes within this factor are one constant: the batcher's delay.
const CONSTANT: f64 = 1.2;

/// Several services run on one execution provider.
pub const SHARED_PROVIDER: Rule = Rule {
    code: "shared-provider",
    severity: Severity::Warning,
    meaning: "Lanes of different services run on the same execution provider.",
    remedy: "Read no difference between backends out of these lanes; use a machine with the providers they are meant \
             for.",
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

/// The server counted other requests than the client sent.
pub const COUNT_MISMATCH: Rule = Rule {
    code: "server-count-mismatch",
    severity: Severity::Error,
    meaning: "From idle to idle, the server counted other requests than this run sent.",
    remedy: "Something else uses the server, or the metrics belong to another one: server-side times are not this \
             run's.",
    imported: None,
    find: |evidence| {
        let mismatches = evidence.cells().iter().filter_map(|cell| {
            let server = cell.server.as_ref()?;
            let counted = server.counted.filter(|&counted| counted != server.expected)?;
            Some((cell.lane, cell.load, format!("{} answered, {counted} counted", server.expected)))
        });
        per_lane("the server counted other requests than were sent", mismatches)
    },
};

/// The same for imported figures, which have no counts from idle to idle.
pub const COUNTERS_OUTSIDE_WINDOW: Rule = Rule {
    code: "counters-outside-window",
    severity: Severity::Error,
    meaning: "In imported figures, the server's counters cover other requests than the latencies do.",
    remedy: "Warm-up, or somebody else's load, is averaged in: bracket the measured requests with the counters.",
    imported: None,
    find: |evidence| {
        let cells = evidence.imported().into_iter().flat_map(|summary| &summary.cells);
        let found = cells.filter_map(|cell| {
            let counted = cell.server?.requests;
            let differs = counted != cell.samples as f64;
            differs.then(|| (cell.lane, cell.load, format!("{counted} for {}", cell.samples)))
        });
        per_lane("the server's counters cover other requests than were measured", found)
    },
};

/// The server's counters could not be read.
pub const NO_COUNTERS: Rule = Rule {
    code: "no-server-counters",
    severity: Severity::Note,
    meaning: "The server's counters could not be read, so its times are unknown.",
    remedy: "Point the service's metrics flag at its Prometheus page.",
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

/// With one request in flight, nothing is ahead in the queue: what waits, waits for the batcher.
pub const QUEUE_EQUALS_DELAY: Rule = Rule {
    code: "queue-equals-delay",
    severity: Severity::Warning,
    meaning: "Single requests wait in the server for the batcher's max_queue_delay.",
    remedy: "That is the batcher's delay, not overhead of the server: set max_queue_delay to 0 to measure latency.",
    imported: Some((
        Severity::Warning,
        "That is the batcher's max_queue_delay, not overhead: look it up in the model's configuration, set it to 0 to \
         measure latency, and show queue time apart.",
    )),
    find: |evidence| match evidence.report {
        Some(report) => known_delays(report),
        None => inferred_delays(evidence.summary),
    },
};

/// Queue times that are the delay which the model's configuration names.
fn known_delays(report: &Report) -> Vec<Finding> {
    let serial = report.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. }));
    let found = serial.filter_map(|cell| {
        let info = report.lanes.iter().find(|info| info.lane == cell.lane)?;
        let delay_ms = info.max_queue_delay_us.filter(|&us| us > 0)? as f64 / 1e3;
        let queue_ms = cell.waterfall.as_ref()?.ms(Part::Queue)?;
        let waits = DELAY_RANGE.contains(&(queue_ms / delay_ms));
        waits.then(|| (cell.lane, cell.load, format!("{queue_ms:.2} ms, max_queue_delay {delay_ms:.2} ms")))
    });
    per_lane("lone requests wait for batch mates that cannot come", found)
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
        "lone requests wait {smallest:.1} to {largest:.1} ms in the server besides computing, in every lane alike"
    );
    vec![Finding { lanes: delays.into_iter().map(|(lane, _)| lane).collect(), message }]
}

/// How long single requests of a lane wait in the server, in ms.
fn lone_wait_ms(summary: &Summary, lane: Lane) -> Option<f64> {
    let serial = summary.serial(lane);
    let queue_ms = serial.iter().find_map(|cell| cell.server?.queue_ms.filter(|&ms| ms >= SHORTEST_DELAY_MS));
    // Without a queue time: the time in the server besides compute grows with the bytes. If it falls instead, it
    // holds a delay that a larger batch is spared.
    queue_ms.or_else(|| {
        let (small, large) = (serial.first()?.server?, serial.get(1)?.server?);
        let waits = small.queue_ms.is_none() && small.waiting_ms() > 2.0 * large.waiting_ms();
        Some(small.waiting_ms()).filter(|&ms| waits && ms >= SHORTEST_DELAY_MS)
    })
}
