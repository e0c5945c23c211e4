//! What figures alone give away, with no samples to look at: rules on a [`Summary`], each a warning.
//!
//! The study that this suite redoes drew wrong conclusions from honest numbers. Each rule here looks for
//! one of its mistakes by arithmetic that holds for any run, never by a file or a name.

use crate::{
    analysis::{
        checks::frame::{Rule, by_lane, each_lane, judge as by_rules, together, warning},
        explain::{handshakes, rounds},
        stats::samples_needed,
        summary::{Bytes, Cell, Form, Summary},
    },
    model::{
        lane::Lane,
        link::{INITIAL_WINDOW, SEGMENT_BYTES},
        load::Load,
        protocol::Protocol,
        warning::{Severity, Warning},
        words::list,
    },
};

/// Code of `engine_builds`.
pub const ENGINE_BUILD: &str = "engine-build-in-window";

/// Two lanes of one service compute the same: a mean this many times the other's holds something else.
const COLD_FACTOR: f64 = 2.0;
/// And this many times is not a cold call but a build.
const BUILD_FACTOR: f64 = 10.0;
/// Waiting below this is not a batcher's delay worth a warning, in ms.
const SHORTEST_DELAY_MS: f64 = 1.0;
/// How much figures may differ that should be one constant (a delay, a round trip): largest by smallest.
const CONSTANT: f64 = 1.2;
/// A server's share of the median latency below which the link, not the server, was measured.
const LINK_BOUND_SHARE: f64 = 0.1;
/// Largest by smallest latency of one cell from which on the cell is unstable.
const UNSTABLE: f64 = 5.0;
/// Effective by nominal concurrency below which the nominal one was not reached.
const CONCURRENCY_REACHED: f64 = 0.95;
/// How much better HTTP's throughput must grow with concurrency than gRPC's to suspect a shared connection.
const SHARED_FACTOR: f64 = 2.0;
/// How much dearer the first bytes must be than a whole smaller request to suspect slow start.
const SLOW_START_FACTOR: f64 = 1.25;

/// Judges figures. With samples at hand, [`warnings::judge`](crate::analysis::checks::judge) looks closer.
pub fn judge(summary: &Summary) -> Vec<Warning> {
    let of_figures: [Rule<Summary>; 14] = [
        engine_builds,
        foreign_requests,
        cold_starts,
        outliers,
        batching_delay,
        fresh_connections,
        shared_connections,
        link_bound,
        unstable,
        throughput_by_median,
        concurrency_not_reached,
        few_samples,
        bytes_not_counted,
        outputs_not_compared,
    ];
    together(match summary.form {
        Form::Study => by_rules(summary, &of_figures),
        Form::Report => by_rules(summary, &[concurrency_not_reached]),
    })
}

/// The same load on the other lane of the service.
fn sibling<'a>(summary: &'a Summary, cell: &Cell) -> Option<&'a Cell> {
    let other = Lane::ALL.into_iter().find(|l| *l != cell.lane && l.service() == cell.lane.service())?;
    summary.cell(other, cell.load)
}

/// The sibling and its mean compute, where the cell's is `factor` times that.
fn above_sibling<'a>(summary: &'a Summary, cell: &Cell, factor: f64) -> Option<(&'a Cell, f64)> {
    let other = sibling(summary, cell)?;
    let compute_ms = other.server?.compute_ms;
    (cell.server?.compute_ms > factor * compute_ms).then_some((other, compute_ms))
}

/// Why a cell's server times are not those of the measured requests: a mean in the server above the
/// client's, or far above the same model's behind the other lane.
pub fn foreign_compute(summary: &Summary, cell: &Cell) -> Option<String> {
    let server = cell.server?;
    match cell.max_ms {
        Some(max) if server.request_ms > max => Some(format!("the client's largest is {max:.1} ms")),
        _ if !cell.server_is_plausible() => Some(format!("the client's mean is {:.1} ms", cell.mean_ms)),
        _ => above_sibling(summary, cell, BUILD_FACTOR)
            .map(|(other, ms)| format!("{ms:.1} ms for the same model behind {}", other.lane)),
    }
}

fn engine_builds(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| {
        let (server, against) = (cell.server?, foreign_compute(summary, cell)?);
        Some((cell.lane, format!("{} (mean {:.1} ms, {against})", cell.load, server.compute_ms)))
    });
    each_lane(
        ENGINE_BUILD,
        Severity::Error,
        found,
        |cells| format!("the server's compute time cannot be that of the measured requests: {cells}"),
        "An engine was built while the counters ran: build every profile before the lane is ready, warm every shape, \
         and read the counters right before and right after the measured requests.",
    )
}

fn foreign_requests(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| {
        let counted = cell.server?.requests;
        (counted != cell.samples as f64).then(|| (cell.lane, format!("{} ({counted} for {})", cell.load, cell.samples)))
    });
    each_lane(
        "counters-outside-window",
        Severity::Error,
        found,
        |cells| format!("the server's counters cover other requests than were measured: {cells}"),
        "Warm-up, or somebody else's load, is averaged in: bracket the measured requests with the counters.",
    )
}

/// A mean compute well above that of the same model behind the other lane: what ran first paid for both.
fn cold_starts(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter(|cell| cell.server_is_plausible()).filter_map(|cell| {
        let (other, ms) = above_sibling(summary, cell, COLD_FACTOR)?;
        let server = cell.server.filter(|server| server.compute_ms <= BUILD_FACTOR * ms)?;
        let excess = (server.compute_ms - ms) * server.requests;
        let (mean, n) = (server.compute_ms, server.requests);
        Some((
            cell.lane,
            format!(
                "{} (mean {mean:.2} ms, {ms:.2} ms behind {}: {excess:.0} ms more in {n} requests)",
                cell.load, other.lane
            ),
        ))
    });
    each_lane(
        "cold-start",
        Severity::Warning,
        found,
        |cells| format!("a cold call is averaged into the server's compute time: {cells}"),
        "The lane that ran first paid for it: warm up every shape and interleave the lanes in random order.",
    )
}

/// One request far slower than the rest.
fn outliers(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| {
        let (max, p95) = (cell.max_ms?, cell.p95_ms?);
        let lone = max > 3.0 * cell.p50_ms && p95 < 2.0 * cell.p50_ms;
        lone.then(|| (cell.lane, format!("{} (largest {max:.0} ms, p95 {p95:.0} ms)", cell.load)))
    });
    each_lane(
        "outlier",
        Severity::Warning,
        found,
        |cells| format!("single requests were far slower than the rest: {cells}"),
        "Whether it was the first one (a cold start) cannot be told: keep the samples in their order.",
    )
}

/// With one request in flight nobody is ahead in the queue: what waits, waits for batch mates.
fn batching_delay(summary: &Summary) -> Vec<Warning> {
    let mut delays: Vec<(Lane, f64)> = Vec::new();
    for lane in summary.lanes() {
        let serial = summary.serial(lane);
        let told = serial.iter().find_map(|cell| cell.server?.queue_ms.filter(|&ms| ms >= SHORTEST_DELAY_MS));
        // Without a queue time: the stay beside compute can only grow with the bytes, unless it holds a delay
        // that a larger batch is spared.
        let inferred = serial.windows(2).next().and_then(|pair| {
            let (small, large) = (pair[0].server?, pair[1].server?);
            let waits = small.queue_ms.is_none() && small.waiting_ms() > 2.0 * large.waiting_ms();
            Some(small.waiting_ms()).filter(|&ms| waits && ms >= SHORTEST_DELAY_MS)
        });
        delays.extend(told.or(inferred).map(|ms| (lane, ms)));
    }
    let smallest = delays.iter().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let largest = delays.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
    if delays.is_empty() || largest > CONSTANT * smallest {
        return Vec::new();
    }
    vec![warning(
        "queue-equals-delay",
        Severity::Warning,
        delays.iter().map(|(lane, _)| *lane).collect(),
        format!(
            "lone requests wait {smallest:.1} to {largest:.1} ms in the server besides computing, in every lane alike"
        ),
        "That is the batcher's max_queue_delay, not overhead: look it up in the model's configuration, set it to 0 to \
         measure latency, and show queue time apart.",
    )]
}

/// Latency without the server's share, in ms: smallest, because queues on the link only add.
fn on_the_link(cell: &Cell) -> Option<f64> {
    Some(cell.min_ms? - cell.plausible_server()?.request_ms)
}

/// Round trips of a request on a fresh connection.
fn fresh_round_trips(cell: &Cell) -> Option<u32> {
    let first_window = INITIAL_WINDOW * SEGMENT_BYTES;
    Some(handshakes(Protocol::of(cell.lane), cell.tls) + rounds(cell.request.exact()?, first_window, u64::MAX))
}

/// The first bytes are the dear ones, and one round trip explains all lanes when each request pays
/// for a handshake and for TCP's slow start.
fn fresh_connections(summary: &Summary) -> Vec<Warning> {
    let cheapest = summary.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. }));
    let Some(cheapest) = cheapest.min_by(|a, b| a.p50_ms.total_cmp(&b.p50_ms)) else { return Vec::new() };
    let Some(cheapest_ms) = cheapest.min_ms else { return Vec::new() };
    let mut suspects = Vec::new();
    for lane in summary.lanes() {
        let serial = summary.serial(lane);
        let Some([small, large]) = serial.get(..2) else { continue };
        let found = || {
            let (few, many) = (small.request.exact()? as f64, large.request.exact()? as f64);
            let (quick, slow) = (on_the_link(small)?, on_the_link(large)?);
            let before_size_matters = quick - (slow - quick) * few / (many - few);
            let round_trip = quick / f64::from(fresh_round_trips(small)?);
            (before_size_matters > SLOW_START_FACTOR * cheapest_ms).then_some((before_size_matters, round_trip))
        };
        suspects.extend(found().map(|(before, round_trip)| (lane, before, round_trip)));
    }
    let round_trips = || suspects.iter().map(|(.., round_trip)| *round_trip);
    let (low, high) = (round_trips().fold(f64::INFINITY, f64::min), round_trips().fold(0.0, f64::max));
    if suspects.is_empty() || high > CONSTANT * low {
        return Vec::new();
    }
    let paid = list(suspects.iter().map(|(lane, before, _)| format!("{lane} {before:.0} ms")));
    vec![warning(
        "fresh-connections",
        Severity::Warning,
        suspects.iter().map(|(lane, ..)| *lane).collect(),
        format!(
            "each request seems to open a connection: before its size matters it pays {paid}, where a whole request of \
             {} takes {cheapest_ms:.0} ms; a handshake and slow start from {INITIAL_WINDOW} segments explain all of \
             these with one round trip of {low:.0} to {high:.0} ms",
            cheapest.lane
        ),
        "Lanes then differ by their round trips, not by protocol or server: reuse connections, or measure both ways.",
    )]
}

/// HTTP's throughput grows with concurrency where gRPC's, in front of the same service, does not.
fn shared_connections(summary: &Summary) -> Vec<Warning> {
    let growth = |lane| {
        let cells = summary.concurrent(lane);
        let [first, .., last] = cells[..] else { return None };
        let best = cells.iter().map(|cell| cell.images_per_s).fold(0.0, f64::max);
        Some((best / first.images_per_s, last.load.workers()))
    };
    let pairs = [(Lane::ONNX_HTTP, Lane::ONNX_GRPC), (Lane::TRT_HTTP, Lane::TRT_GRPC)];
    pairs
        .into_iter()
        .filter_map(|(http, grpc)| {
            let ((http_growth, _), (grpc_growth, workers)) = (growth(http)?, growth(grpc)?);
            (http_growth > SHARED_FACTOR * grpc_growth).then(|| {
                warning(
                    "connections-shared",
                    Severity::Warning,
                    vec![grpc],
                    format!(
                        "with up to {workers} at once the throughput of {http} grows {http_growth:.1}-fold, that of {grpc} \
                         {grpc_growth:.1}-fold: its workers seem to share one TCP connection"
                    ),
                    "gRPC channels to one target share a connection unless told otherwise: count real connections and \
                     compare at equal numbers.",
                )
            })
        })
        .collect()
}

fn link_bound(summary: &Summary) -> Vec<Warning> {
    let share = |cell: &Cell| Some(cell.plausible_server()?.request_ms / cell.p50_ms);
    let found: Vec<_> = summary
        .cells
        .iter()
        .filter_map(|cell| Some((cell, share(cell).filter(|&share| share < LINK_BOUND_SHARE)?)))
        .collect();
    each_lane(
        "link-bound",
        Severity::Warning,
        found.iter().map(|(cell, share)| (cell.lane, format!("{} ({:.1} %)", cell.load, share * 100.0))),
        |cells| format!("the server accounts for next to nothing of the latency: {cells} of p50"),
        "These cells measured the way to the server: compare servers by their own times, or measure from nearby.",
    )
}

fn unstable(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| {
        let spread = cell.max_ms? / cell.min_ms?;
        (spread >= UNSTABLE).then(|| (cell.lane, format!("{} ({spread:.1}×)", cell.load)))
    });
    each_lane(
        "unstable",
        Severity::Warning,
        found,
        |cells| format!("the largest latency is a multiple of the smallest: {cells}"),
        "A median of such samples moves from run to run: take more samples, in interleaved blocks, with intervals.",
    )
}

/// Every serial rate is the batch size by the median, to the last digit.
fn throughput_by_median(summary: &Summary) -> Vec<Warning> {
    let serial: Vec<_> = summary.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. })).collect();
    let by_median = |cell: &&Cell| {
        let rate = cell.images() / cell.p50_ms * 1e3;
        (cell.images_per_s - rate).abs() <= 1e-9 * rate
    };
    if serial.is_empty() || !serial.iter().all(by_median) {
        return Vec::new();
    }
    let overstated = serial.iter().map(|cell| cell.mean_ms / cell.p50_ms - 1.0).fold(0.0, f64::max);
    vec![warning(
        "throughput-not-measured",
        Severity::Warning,
        summary.lanes(),
        format!(
            "serial throughput is the batch size divided by p50, not work by time; by the mean it would be up to {:.0} % \
             lower",
            (1.0 - 1.0 / (1.0 + overstated)) * 100.0
        ),
        "Divide completed images by time on the clock.",
    )]
}

/// Little's law: requests in flight on average are the rate times the mean latency.
fn concurrency_not_reached(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| {
        let Load::Concurrent { concurrency, .. } = cell.load else { return None };
        let effective = cell.images_per_s / cell.images() * cell.mean_ms / 1e3;
        (effective < CONCURRENCY_REACHED * concurrency as f64)
            .then(|| (cell.lane, format!("{} ({effective:.1} in {} requests)", cell.load, cell.samples)))
    });
    each_lane(
        "concurrency-not-reached",
        Severity::Warning,
        found,
        |cells| format!("fewer requests were in flight than the concurrency says: {cells}"),
        "Ramp and tail are averaged in: measure a timed window and drop both.",
    )
}

fn few_samples(summary: &Summary) -> Vec<Warning> {
    let needed = samples_needed(0.99);
    let short = || summary.cells.iter().filter(|cell| cell.p99_ms.is_some() && (cell.samples as usize) < needed);
    let (Some(fewest), Some(most)) = (short().map(|c| c.samples).min(), short().map(|c| c.samples).max()) else {
        return Vec::new();
    };
    let samples = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    vec![warning(
        "too-few-samples-for-p99",
        Severity::Warning,
        by_lane(short().map(|cell| (cell.lane, ()))).into_keys().collect(),
        format!(
            "p99 of {samples} samples is next to the largest of them; with an interval it needs {needed}, p95 {}",
            samples_needed(0.95)
        ),
        "Take more samples, and give intervals.",
    )]
}

fn bytes_not_counted(summary: &Summary) -> Vec<Warning> {
    let found = summary.cells.iter().filter_map(|cell| match cell.request {
        Bytes::Nominal(bytes) => Some((cell.lane, format!("{} ({} KB)", cell.load, bytes as f64 / 1e3))),
        Bytes::Exact(_) | Bytes::Unknown => None,
    });
    each_lane(
        "bytes-not-counted",
        Severity::Warning,
        found,
        |cells| format!("the size of the requests is a round figure that nobody counted: {cells}"),
        "Count bytes both ways on the wire; base64 alone adds a third.",
    )
}

fn outputs_not_compared(summary: &Summary) -> Vec<Warning> {
    vec![warning(
        "outputs-not-compared",
        Severity::Note,
        summary.lanes(),
        "nothing shows that the lanes computed the same, nor what the client did before sending".into(),
        "Compare the lanes' outputs before timing, and charge the client's preprocessing.",
    )]
}
