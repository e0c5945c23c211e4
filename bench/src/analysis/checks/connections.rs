//! Rules about connections: reopened while measuring, opened for each request, or shared by workers.

use super::rule::{Evidence, Finding, Rule, by_lane};
use crate::{
    analysis::{
        predict::{handshakes, rounds},
        summary::{Cell, Summary},
    },
    model::{
        lane::Lane,
        link::{INITIAL_WINDOW, SEGMENT_BYTES},
        load::Load,
        protocol::Protocol,
        warning::Severity,
        words::list,
    },
};

/// If the round trips of all lanes lie within this factor, they are one constant: the link's round trip.
const CONSTANT: f64 = 1.2;
/// Slow start is suspected if the time before the size matters exceeds the quickest request by this factor.
const SLOW_START_FACTOR: f64 = 1.25;
/// A shared connection is suspected if HTTP's throughput grows with concurrency by this factor more than gRPC's.
const SHARED_FACTOR: f64 = 2.0;

/// Connections that should have been reused were reopened.
pub const RECONNECTED: Rule = Rule {
    code: "reconnected",
    severity: Severity::Warning,
    meaning: "Connections that should be reused were reopened while measuring.",
    remedy: "Find out why the server closes connections (keep-alive limits, errors).",
    imported: None,
    find: |evidence| {
        let reopened = evidence.cells().iter().filter(|cell| cell.reconnects > 0);
        let lanes = by_lane(reopened.map(|cell| (cell.lane, (cell.reconnects, cell.load)))).into_iter();
        let finding = |(lane, cells): (Lane, Vec<(u64, Load)>)| {
            let count: u64 = cells.iter().map(|(reconnects, _)| reconnects).sum();
            let loads = list(cells.iter().map(|(_, load)| load));
            let message =
                format!("{count} connections were reopened while measuring, in {loads}: the latency includes this");
            Finding { lanes: vec![lane], message }
        };
        lanes.map(finding).collect()
    },
};

/// The first bytes take longest, and one round-trip time explains all lanes if each request includes a handshake and
/// TCP's slow start.
pub const FRESH: Rule = Rule {
    code: "fresh-connections",
    severity: Severity::Warning,
    meaning: "In imported figures, each request seems to open a connection of its own.",
    remedy: "The lanes then differ by round trips, not by protocol or server: reuse connections, or measure with and \
             without reuse.",
    imported: None,
    find: fresh,
};

/// A lane whose requests seem to open connections.
struct Suspect {
    lane: Lane,
    /// The part of a request's time that does not depend on its size, in ms.
    fixed_ms: f64,
    /// The link's round trip that would explain it, in ms.
    round_trip_ms: f64,
}

fn fresh(evidence: &Evidence) -> Vec<Finding> {
    let Some(summary) = evidence.imported() else { return Vec::new() };
    let serial = summary.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. }));
    let Some(quickest) = serial.min_by(|a, b| a.p50_ms.total_cmp(&b.p50_ms)) else { return Vec::new() };
    let Some(quickest_ms) = quickest.min_ms else { return Vec::new() };
    let suspects = summary.lanes().into_iter().filter_map(|lane| suspect(summary, lane));
    let suspects: Vec<Suspect> =
        suspects.filter(|suspect| suspect.fixed_ms > SLOW_START_FACTOR * quickest_ms).collect();
    let low = suspects.iter().map(|suspect| suspect.round_trip_ms).fold(f64::INFINITY, f64::min);
    let high = suspects.iter().map(|suspect| suspect.round_trip_ms).fold(0.0, f64::max);
    if suspects.is_empty() || high > CONSTANT * low {
        return Vec::new();
    }
    let fixed = list(suspects.iter().map(|suspect| format!("{} {:.0} ms", suspect.lane, suspect.fixed_ms)));
    let message = format!(
        "each request seems to open a connection: the time that does not depend on its size is {fixed}, although a \
         complete request of {} takes {quickest_ms:.0} ms; a handshake and slow start from {INITIAL_WINDOW} segments \
         explain all of these with a round trip of {low:.0} to {high:.0} ms",
        quickest.lane
    );
    vec![Finding { lanes: suspects.iter().map(|suspect| suspect.lane).collect(), message }]
}

/// Extrapolates a lane's two smallest batches to a request of 0 bytes.
fn suspect(summary: &Summary, lane: Lane) -> Option<Suspect> {
    let serial = summary.serial(lane);
    let [small, large] = serial.get(..2)? else { return None };
    let (few, many) = (small.request.exact()? as f64, large.request.exact()? as f64);
    let (quick, slow) = (on_the_link_ms(small)?, on_the_link_ms(large)?);
    let fixed_ms = quick - (slow - quick) * few / (many - few);
    let round_trip_ms = quick / f64::from(fresh_round_trips(small)?);
    Some(Suspect { lane, fixed_ms, round_trip_ms })
}

/// The smallest latency without the server's share; the smallest, because queues on the link only add to it.
fn on_the_link_ms(cell: &Cell) -> Option<f64> {
    Some(cell.min_ms? - cell.plausible_server()?.request_ms)
}

/// Round trips of a request on a fresh connection.
fn fresh_round_trips(cell: &Cell) -> Option<u32> {
    let first_window = INITIAL_WINDOW * SEGMENT_BYTES;
    Some(handshakes(Protocol::of(cell.lane), cell.tls) + rounds(cell.request.exact()?, first_window, u64::MAX))
}

/// With concurrency, HTTP's throughput grows and gRPC's, for the same service, does not.
pub const SHARED: Rule = Rule {
    code: "connections-shared",
    severity: Severity::Warning,
    meaning: "In imported figures, all gRPC workers seem to share one TCP connection.",
    remedy: "gRPC channels to one target share a connection by default: count the real connections and compare lanes \
             with equal numbers.",
    imported: None,
    find: shared,
};

fn shared(evidence: &Evidence) -> Vec<Finding> {
    let Some(summary) = evidence.imported() else { return Vec::new() };
    let growth = |lane| {
        let cells = summary.concurrent(lane);
        let [first, .., last] = cells[..] else { return None };
        let best = cells.iter().map(|cell| cell.images_per_s).fold(0.0, f64::max);
        Some((best / first.images_per_s, last.load.workers()))
    };
    let pairs = [(Lane::ONNX_HTTP, Lane::ONNX_GRPC), (Lane::TRT_HTTP, Lane::TRT_GRPC)];
    let found = pairs.into_iter().filter_map(|(http, grpc)| {
        let ((http_growth, _), (grpc_growth, workers)) = (growth(http)?, growth(grpc)?);
        let message = || {
            format!(
                "with up to {workers} workers the throughput of {http} grows {http_growth:.1}-fold and that of {grpc} \
                 {grpc_growth:.1}-fold: the workers of {grpc} seem to share one TCP connection"
            )
        };
        (http_growth > SHARED_FACTOR * grpc_growth).then(|| Finding { lanes: vec![grpc], message: message() })
    });
    found.collect()
}
