//! Rules about connections: opened anew while measuring, for each request, or shared by workers.

use super::rule::{Evidence, Finding, Rule, by_lane};
use crate::{
    analysis::{
        explain::{handshakes, rounds},
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

/// Round trips of all lanes within this factor are one constant: that of the link.
const CONSTANT: f64 = 1.2;
/// How many times as long as a whole smaller request the first bytes must take to suspect slow start.
const SLOW_START_FACTOR: f64 = 1.25;
/// How many times as much as gRPC's HTTP's throughput must grow with concurrency to suspect a shared connection.
const SHARED_FACTOR: f64 = 2.0;

/// Connections that should have been kept were opened anew.
pub const RECONNECTED: Rule = Rule {
    code: "reconnected",
    severity: Severity::Warning,
    meaning: "Connections that are reused were opened anew while measuring.",
    remedy: "Find out why the server closes connections (keep-alive limits, errors).",
    imported: None,
    find: |evidence| {
        let reopened = evidence.cells().iter().filter(|cell| cell.reconnects > 0);
        let lanes = by_lane(reopened.map(|cell| (cell.lane, (cell.reconnects, cell.load)))).into_iter();
        let finding = |(lane, cells): (Lane, Vec<(u64, Load)>)| {
            let count: u64 = cells.iter().map(|(reconnects, _)| reconnects).sum();
            let loads = list(cells.iter().map(|(_, load)| load));
            let message =
                format!("{count} connections were opened while measuring, in {loads}: their latency includes it");
            Finding { lanes: vec![lane], message }
        };
        lanes.map(finding).collect()
    },
};

/// The first bytes take longest, and one round trip explains all lanes if each request pays for a handshake and for
/// TCP's slow start.
pub const FRESH: Rule = Rule {
    code: "fresh-connections",
    severity: Severity::Warning,
    meaning: "In imported figures, each request seems to open a connection of its own.",
    remedy: "Lanes then differ by their round trips, not by protocol or server: reuse connections, or measure both \
             ways.",
    imported: None,
    find: fresh,
};

/// A lane whose requests seem to open connections.
struct Suspect {
    lane: Lane,
    /// What a request takes before its size matters, in ms.
    before_size_ms: f64,
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
        suspects.filter(|suspect| suspect.before_size_ms > SLOW_START_FACTOR * quickest_ms).collect();
    let low = suspects.iter().map(|suspect| suspect.round_trip_ms).fold(f64::INFINITY, f64::min);
    let high = suspects.iter().map(|suspect| suspect.round_trip_ms).fold(0.0, f64::max);
    if suspects.is_empty() || high > CONSTANT * low {
        return Vec::new();
    }
    let paid = list(suspects.iter().map(|suspect| format!("{} {:.0} ms", suspect.lane, suspect.before_size_ms)));
    let message = format!(
        "each request seems to open a connection: before its size matters it pays {paid}, where a whole request of {} \
         takes {quickest_ms:.0} ms; a handshake and slow start from {INITIAL_WINDOW} segments explain all of these \
         with one round trip of {low:.0} to {high:.0} ms",
        quickest.lane
    );
    vec![Finding { lanes: suspects.iter().map(|suspect| suspect.lane).collect(), message }]
}

/// The line through a lane's two smallest batches, at no bytes.
fn suspect(summary: &Summary, lane: Lane) -> Option<Suspect> {
    let serial = summary.serial(lane);
    let [small, large] = serial.get(..2)? else { return None };
    let (few, many) = (small.request.exact()? as f64, large.request.exact()? as f64);
    let (quick, slow) = (on_the_link_ms(small)?, on_the_link_ms(large)?);
    let before_size_ms = quick - (slow - quick) * few / (many - few);
    let round_trip_ms = quick / f64::from(fresh_round_trips(small)?);
    Some(Suspect { lane, before_size_ms, round_trip_ms })
}

/// Latency without the server's share: the smallest, because queues on the link only add.
fn on_the_link_ms(cell: &Cell) -> Option<f64> {
    Some(cell.min_ms? - cell.plausible_server()?.request_ms)
}

/// Round trips of a request on a fresh connection.
fn fresh_round_trips(cell: &Cell) -> Option<u32> {
    let first_window = INITIAL_WINDOW * SEGMENT_BYTES;
    Some(handshakes(Protocol::of(cell.lane), cell.tls) + rounds(cell.request.exact()?, first_window, u64::MAX))
}

/// HTTP's throughput grows with concurrency where gRPC's, in front of the same service, does not.
pub const SHARED: Rule = Rule {
    code: "connections-shared",
    severity: Severity::Warning,
    meaning: "In imported figures, all gRPC workers seem to share one TCP connection.",
    remedy: "gRPC channels to one target share a connection unless told otherwise: count real connections and \
             compare at equal numbers.",
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
                "with up to {workers} at once the throughput of {http} grows {http_growth:.1}-fold, that of {grpc} \
                 {grpc_growth:.1}-fold: its workers seem to share one TCP connection"
            )
        };
        (http_growth > SHARED_FACTOR * grpc_growth).then(|| Finding { lanes: vec![grpc], message: message() })
    });
    found.collect()
}
