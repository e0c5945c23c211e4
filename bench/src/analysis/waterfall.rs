//! Where the time of a request goes: the client's marks and the server's stage times laid end to end. Pure.
//!
//! The two clocks are not compared: the server's stages are a length that fits between the client's last
//! byte out and first byte in, and what is left there is the network, both ways together. The body is read
//! while it is sent, so only the sending that no stage of the server overlaps counts as `send`: behind a slow
//! link, the upload shows up as `receive`.
//! Time that nobody accounts for is one part, `unknown`: it is never spread over others.

use std::{collections::BTreeMap, time::Duration};

use quintet_proto::SERVER_TIMING;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::stats::{Estimate, mean, middle},
    client::Reply,
    model::record::Sample,
    server::counters::Counters,
};

/// How far the parts may miss the measured latency before a report says so.
pub const TOLERANCE: f64 = 0.03;

/// Draws and resamples of the intervals.
const MAX_DRAWS: usize = 500_000;
const RESAMPLES: std::ops::RangeInclusive<usize> = 200..=1_000;

/// A part of a request's latency. The order is that of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Client: opening the connection; next to nothing when it is kept.
    Connect,
    /// Client: the TLS handshake on it, where TLS is spoken.
    Tls,
    /// Client: the request from its prepared pieces. (Preprocessing is charged apart.)
    ClientEncode,
    /// Client: handing the request to the system, where the server does not read it meanwhile.
    Send,
    /// Both ways together, with the operating systems on both sides.
    Network,
    /// Server: reading the body from the socket, as fast as it arrives.
    Receive,
    /// Server: protocol to tensors; on the jpeg lane also decoding and preprocessing.
    Parse,
    /// Server: waiting for an instance and for batch mates.
    Queue,
    /// Server: requests to one batch.
    Gather,
    /// Server: batch to the backend's input.
    CopyIn,
    /// Server: the model.
    Infer,
    /// Server: the backend's output to the server's buffers.
    CopyOut,
    /// Server: tensors to protocol.
    Encode,
    /// Between the client's last byte out and first byte in, and nobody tells what.
    Unknown,
    /// Client: the answer from its first byte to its last.
    Download,
    /// Client: whether the answer is a success.
    ClientDecode,
}

/// Where a part's time is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the client.
    Client,
    /// On the way.
    Network,
    /// In the server.
    Server,
    /// Not known.
    Unknown,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 16] = [
        Self::Connect,
        Self::Tls,
        Self::ClientEncode,
        Self::Send,
        Self::Network,
        Self::Receive,
        Self::Parse,
        Self::Queue,
        Self::Gather,
        Self::CopyIn,
        Self::Infer,
        Self::CopyOut,
        Self::Encode,
        Self::Unknown,
        Self::Download,
        Self::ClientDecode,
    ];

    /// The server's stages, in the order and by the names of `Server-Timing`.
    pub const STAGES: [Self; 8] =
        [Self::Receive, Self::Parse, Self::Queue, Self::Gather, Self::CopyIn, Self::Infer, Self::CopyOut, Self::Encode];

    /// The name in `Server-Timing`, in reports and in hypotheses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ClientEncode => "client_encode",
            Self::Send => "send",
            Self::Network => "network",
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Queue => "queue",
            Self::Gather => "gather",
            Self::CopyIn => "copy_in",
            Self::Infer => "infer",
            Self::CopyOut => "copy_out",
            Self::Encode => "encode",
            Self::Unknown => "unknown",
            Self::Download => "download",
            Self::ClientDecode => "client_decode",
        }
    }

    /// Where its time is spent.
    pub fn place(self) -> Place {
        match self {
            Self::Connect | Self::Tls | Self::ClientEncode | Self::Send | Self::ClientDecode => Place::Client,
            Self::Network | Self::Download => Place::Network,
            Self::Unknown => Place::Unknown,
            _ => Place::Server,
        }
    }
}

/// The server's stage times of one request, in µs, in the order of [`Part::STAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes([u32; Part::STAGES.len()]);

impl StageTimes {
    /// The stage times in an answer's headers or trailing metadata.
    pub fn of(reply: &Reply) -> Option<Self> {
        let value = reply.headers.get(SERVER_TIMING).or_else(|| reply.trailers.get(SERVER_TIMING))?;
        Self::parse(value.to_str().ok()?)
    }

    /// Reads `queue;dur=0.041, infer;dur=18.2`. Stages may be in any order and have further parameters, other
    /// metrics may stand between them; `None` unless all eight stages are there.
    pub fn parse(value: &str) -> Option<Self> {
        let mut times = [None; Part::STAGES.len()];
        for metric in value.split(',') {
            let mut fields = metric.split(';').map(str::trim);
            let name = fields.next()?;
            let Some(stage) = Part::STAGES.iter().position(|stage| stage.name() == name) else { continue };
            let duration = fields.find_map(|field| field.strip_prefix("dur=")?.trim_matches('"').parse::<f64>().ok());
            times[stage] = duration
                .map(|ms| (ms * 1e3).round())
                .filter(|us| (0.0..=f64::from(u32::MAX)).contains(us))
                .map(|us| us as u32);
        }
        let mut known = [0; Part::STAGES.len()];
        for (known, time) in known.iter_mut().zip(times) {
            *known = time?;
        }
        Some(Self(known))
    }

    fn ns(self, part: Part) -> i64 {
        let stage = Part::STAGES.iter().position(|stage| *stage == part);
        stage.map_or(0, |index| i64::from(self.0[index]) * 1_000)
    }
}

/// The parts of each sample, in µs, column by column: with `network` and the stages where every sample has
/// stage times, else with `unknown` in their place; with `tls` where every sample has it. `network` is negative where the
/// server claims more time than the client saw.
pub fn columns(samples: &[Sample]) -> BTreeMap<Part, Vec<f64>> {
    let complete = samples.iter().all(|sample| sample.stages.is_some());
    let tls = samples.iter().all(|sample| sample.marks.tls.is_some());
    let mut columns: BTreeMap<Part, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        for (part, ns) in split(sample, sample.stages.filter(|_| complete), tls) {
            columns.entry(part).or_insert_with(|| Vec::with_capacity(samples.len())).push(ns as f64 / 1e3);
        }
    }
    columns
}

/// The parts of one sample in ns.
fn split(sample: &Sample, stages: Option<StageTimes>, tls: bool) -> Vec<(Part, i64)> {
    let ns = |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as i64;
    let marks = sample.marks;
    let sending = ns(marks.encoded, marks.sent);
    let answered = ns(marks.encoded, marks.first_byte);
    let handshake = marks.tls.filter(|_| tls);
    let mut parts = vec![
        (Part::Connect, ns(handshake.unwrap_or_default(), marks.connected)),
        (Part::ClientEncode, ns(marks.connected, marks.encoded)),
        (Part::Download, ns(marks.first_byte, marks.last_byte)),
        (Part::ClientDecode, ns(marks.last_byte, marks.decoded)),
    ];
    parts.extend(handshake.map(|handshake| (Part::Tls, ns(Duration::ZERO, handshake))));
    match stages {
        Some(stages) => {
            let server: i64 = Part::STAGES.iter().map(|stage| stages.ns(*stage)).sum();
            // The client may learn late, while the server is past reading, that all was sent.
            let send = (sending - stages.ns(Part::Receive)).clamp(0, (answered - server).max(0));
            parts.extend([(Part::Send, send), (Part::Network, answered - send - server)]);
            parts.extend(Part::STAGES.map(|stage| (stage, stages.ns(stage))));
        }
        None => parts.extend([(Part::Send, sending), (Part::Unknown, answered - sending)]),
    }
    parts
}

/// Whose word the server's parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Stage times with every answer (`Server-Timing`).
    StageTimes,
    /// Triton's counters over the window: queue, copies and compute; the rest is unknown.
    Counters,
    /// Nobody's: the client's parts alone are known.
    Client,
}

/// One part of a cell's mean latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartTime {
    /// The part.
    pub part: Part,
    /// Where it is spent.
    pub place: Place,
    /// Its mean for each request, in ms; `None` (null) when it is not known apart from others.
    pub ms: Option<Estimate>,
}

/// A cell's mean latency in parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waterfall {
    /// Whose word the server's parts are.
    pub source: Source,
    /// The parts in order. Where some are not known, `unknown` holds all of these together.
    pub parts: Vec<PartTime>,
    /// The measured mean latency since the request was sent, in ms.
    pub latency_ms: f64,
    /// The sum of the parts, in ms.
    pub sum_ms: f64,
    /// How far the sum is off the latency, as a share of it.
    pub gap: f64,
}

impl Waterfall {
    /// Takes a cell's mean latency apart. `columns` are those of [`columns()`], `latency_us` the samples' since the send,
    /// `blocks` the server's counters over each block, if it has any. `None` without samples.
    pub fn new(columns: &BTreeMap<Part, Vec<f64>>, latency_us: &[f64], blocks: &[Counters], seed: u64) -> Option<Self> {
        let latency_ms = mean(latency_us)? / 1e3;
        let mut known: BTreeMap<Part, Estimate> = means(columns, latency_us.len(), seed);
        let source = match known.get(&Part::Unknown) {
            None => Source::StageTimes,
            Some(unknown) => match by_counters(blocks, seed) {
                Some(counted) => {
                    let rest = *unknown;
                    let told: f64 = counted.values().map(|ms| ms.value).sum();
                    known.insert(Part::Unknown, shifted(rest, -told));
                    known.extend(counted);
                    Source::Counters
                }
                None => Source::Client,
            },
        };
        // Less than nothing cannot be drawn: the sum then exceeds the latency, which the gap shows.
        for part in [Part::Network, Part::Unknown] {
            if let Some(ms) = known.get_mut(&part) {
                *ms = Estimate { value: ms.value.max(0.0), low: ms.low.max(0.0), high: ms.high.max(0.0), n: ms.n };
            }
        }
        let sum_ms = known.values().map(|ms| ms.value).sum::<f64>();
        let parts = Part::ALL
            .into_iter()
            .filter(|part| !matches!(part, Part::Unknown | Part::Tls) || known.contains_key(part))
            .map(|part| PartTime { part, place: part.place(), ms: known.get(&part).copied() })
            .collect();
        Some(Self { source, parts, latency_ms, sum_ms, gap: sum_ms / latency_ms - 1.0 })
    }

    /// The mean of a part, in ms, where it is known.
    pub fn ms(&self, part: Part) -> Option<f64> {
        self.parts.iter().find(|time| time.part == part)?.ms.map(|ms| ms.value)
    }

    /// The mean time spent at a place, in ms; `None` where a part of it is not known.
    pub fn at(&self, place: Place) -> Option<f64> {
        self.parts.iter().filter(|time| time.place == place).map(|time| time.ms.map(|ms| ms.value)).sum()
    }

    /// The parts that `unknown` holds.
    pub fn unknown(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().filter(|time| time.ms.is_none()).map(|time| time.part)
    }

    /// Whether the parts add up to the latency.
    pub fn adds_up(&self) -> bool {
        self.gap.abs() <= TOLERANCE
    }
}

fn shifted(estimate: Estimate, by: f64) -> Estimate {
    Estimate::new(estimate.value + by, estimate.low + by, estimate.high + by, estimate.n)
}

/// Means with bootstrap intervals, in ms: whole requests are drawn, so that the parts of one stay together.
fn means(columns: &BTreeMap<Part, Vec<f64>>, n: usize, seed: u64) -> BTreeMap<Part, Estimate> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut replicates: Vec<Vec<f64>> = vec![Vec::new(); columns.len()];
    for _ in 0..(MAX_DRAWS / n.max(1)).clamp(*RESAMPLES.start(), *RESAMPLES.end()) {
        let draw: Vec<usize> = (0..n).map(|_| rng.random_range(0..n)).collect();
        for (replicates, column) in replicates.iter_mut().zip(columns.values()) {
            replicates.push(draw.iter().map(|&i| column[i]).sum::<f64>() / n as f64 / 1e3);
        }
    }
    let estimate = |(replicates, (&part, column)): (Vec<f64>, (&Part, &Vec<f64>))| {
        Some((part, middle(mean(column)? / 1e3, replicates, n)))
    };
    replicates.into_iter().zip(columns).filter_map(estimate).collect()
}

/// What Triton's counters tell of the server's parts, in ms for each request: blocks are resampled, so a
/// single block has no interval (n = 1). `None` without counted requests.
fn by_counters(blocks: &[Counters], seed: u64) -> Option<BTreeMap<Part, Estimate>> {
    type Counter = fn(&Counters) -> u64;
    let told: [(Part, Counter); 4] = [
        (Part::Queue, |c| c.queue_us),
        (Part::CopyIn, |c| c.compute_input_us),
        (Part::Infer, |c| c.compute_infer_us),
        (Part::CopyOut, |c| c.compute_output_us),
    ];
    let blocks: Vec<&Counters> = blocks.iter().filter(|block| block.requests > 0).collect();
    if blocks.is_empty() {
        return None;
    }
    let ms = |draw: &[&Counters], us: Counter| {
        let requests: u64 = draw.iter().map(|block| block.requests).sum();
        draw.iter().map(|block| us(block)).sum::<u64>() as f64 / requests as f64 / 1e3
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draws: Vec<Vec<&Counters>> = (0..*RESAMPLES.end())
        .map(|_| (0..blocks.len()).map(|_| blocks[rng.random_range(0..blocks.len())]).collect())
        .collect();
    let estimate = |(part, us): (Part, Counter)| {
        (part, middle(ms(&blocks, us), draws.iter().map(|draw| ms(draw, us)).collect(), blocks.len()))
    };
    Some(told.into_iter().map(estimate).collect())
}

#[cfg(test)]
mod tests;
