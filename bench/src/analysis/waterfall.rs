//! Splits latency into parts: the client's marks and the server's stage times end to end. Pure functions.
//!
//! The two clocks are not compared. The server's stages have a total length, which fits between the client's last byte
//! out and first byte in. Of the rest, at most the round trip of the connection is the network, both directions together;
//! what is longer is `unaccounted`. Without a known round trip all of the rest is the network. The server reads the body
//! while the client sends it, so only sending that no server stage overlaps counts as `send`: on a slow link, the
//! upload appears as `receive`. Time that no stage accounts for is one part, `unknown`. It is never distributed over
//! other parts.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::{
        batches::Batches,
        stats::{from_replicates, mean, students_t},
    },
    model::{
        cell::BlockSpan,
        counters::Counters,
        estimate::Estimate,
        part::{Part, StageTimes},
        sample::Sample,
        samples::Samples,
        waterfall::{PartTime, Source, Waterfall},
    },
};

/// Most draws of a bootstrap; many samples get fewer resamples, within [`RESAMPLES`].
const MAX_DRAWS: usize = 500_000;
const RESAMPLES: std::ops::RangeInclusive<usize> = 200..=1_000;

/// The parts of each sample, in µs, as columns. There is `network` and the stages if every sample has stage times,
/// otherwise `unknown` instead; `tls` if every sample has it, and `unaccounted` if every sample has stage times and a
/// round trip. `network` is negative if the server reports more time
/// than the client saw.
pub fn columns(samples: &[Sample]) -> BTreeMap<Part, Vec<f64>> {
    let complete = samples.iter().all(|sample| sample.stages.is_some());
    let tls = samples.iter().all(|sample| sample.marks.tls.is_some());
    let round_trips = samples.iter().all(|sample| sample.marks.round_trip.is_some());
    let mut columns: BTreeMap<Part, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        for (part, ns) in split(sample, sample.stages.filter(|_| complete), tls, round_trips) {
            columns.entry(part).or_insert_with(|| Vec::with_capacity(samples.len())).push(ns as f64 / 1e3);
        }
    }
    columns
}

/// The parts of one sample in ns.
fn split(sample: &Sample, stages: Option<StageTimes>, tls: bool, round_trips: bool) -> Vec<(Part, i64)> {
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
            // The client may learn only after the server has read everything that all was sent.
            let send = (sending - stages.ns(Part::Receive)).clamp(0, (answered - server).max(0));
            let rest = answered - send - server;
            let round_trip = marks.round_trip.filter(|_| round_trips).map(|time| time.as_nanos() as i64);
            let network = round_trip.map_or(rest, |round_trip| rest.min(round_trip));
            parts.extend([(Part::Send, send), (Part::Network, network)]);
            parts.extend(round_trip.map(|_| (Part::Unaccounted, rest - network)));
            parts.extend(Part::STAGES.map(|stage| (stage, stages.ns(stage))));
        }
        None => parts.extend([(Part::Send, sending), (Part::Unknown, answered - sending)]),
    }
    parts
}

impl Waterfall {
    /// Splits a cell's mean latency since sending into parts. `spans` are the blocks of requests that wait for each other:
    /// they, not requests, are the observations then; empty if requests are independent. `blocks` are the server's counters
    /// for each block, if there are any. `None` without samples.
    pub fn new(samples: &Samples, spans: &[BlockSpan], blocks: &[Counters], seed: u64) -> Option<Self> {
        let latency_us = samples.service_us();
        let latency_ms = mean(&latency_us)? / 1e3;
        let mut known: BTreeMap<Part, Estimate> =
            means_of_blocks(samples, spans).unwrap_or_else(|| means(&samples.parts_us, latency_us.len(), seed));
        let source = match known.get(&Part::Unknown) {
            None => Source::StageTimes,
            Some(unknown) => match by_counters(blocks) {
                Some(counted) => {
                    let rest = *unknown;
                    let counted_ms: f64 = counted.values().map(|ms| ms.value).sum();
                    known.insert(Part::Unknown, shifted(rest, -counted_ms));
                    known.extend(counted);
                    Source::Counters
                }
                None => Source::Client,
            },
        };
        // A negative part cannot be drawn. With 0 instead, the sum exceeds the latency, which the gap shows.
        for part in [Part::Network, Part::Unknown] {
            if let Some(ms) = known.get_mut(&part) {
                *ms = Estimate { value: ms.value.max(0.0), low: ms.low.max(0.0), high: ms.high.max(0.0), n: ms.n };
            }
        }
        let sum_ms = known.values().map(|ms| ms.value).sum::<f64>();
        let parts = Part::ALL
            .into_iter()
            .filter(|part| !matches!(part, Part::Unknown | Part::Unaccounted | Part::Tls) || known.contains_key(part))
            .map(|part| PartTime { part, place: part.location(), ms: known.get(&part).copied() })
            .collect();
        Some(Self { source, parts, latency_ms, sum_ms, gap: sum_ms / latency_ms - 1.0 })
    }
}

fn shifted(estimate: Estimate, by: f64) -> Estimate {
    Estimate::new(estimate.value + by, estimate.low + by, estimate.high + by, estimate.n)
}

/// Means of requests that wait for each other, in ms, by batch means; `None` if there are too few requests.
fn means_of_blocks(samples: &Samples, spans: &[BlockSpan]) -> Option<BTreeMap<Part, Estimate>> {
    let in_order = |span: &BlockSpan| {
        let mut order: Vec<usize> = (span.first..span.first + span.samples).collect();
        order.sort_by(|&a, &b| samples.start_us[a].total_cmp(&samples.start_us[b]));
        order
    };
    let orders: Vec<Vec<usize>> = spans.iter().map(in_order).collect();
    let estimate = |(&part, column): (&Part, &Vec<f64>)| {
        let blocks = orders.iter().map(|order| order.iter().map(|&i| column[i] / 1e3).collect()).collect();
        Some((part, Batches::new(blocks)?.mean()?))
    };
    samples.parts_us.iter().map(estimate).collect()
}

/// Means with bootstrap intervals, in ms. Complete requests are resampled, so the parts of a request stay together.
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
        Some((part, from_replicates(mean(column)? / 1e3, replicates, n)))
    };
    replicates.into_iter().zip(columns).filter_map(estimate).collect()
}

/// The server's parts from Triton's counters, in ms for each request. Blocks are the observations of the ratio of time to
/// requests, so a single block has no interval (n = 1). `None` if no request was counted.
fn by_counters(blocks: &[Counters]) -> Option<BTreeMap<Part, Estimate>> {
    type Counter = fn(&Counters) -> u64;
    let counters: [(Part, Counter); 4] = [
        (Part::Queue, |c| c.queue_us),
        (Part::CopyIn, |c| c.compute_input_us),
        (Part::Infer, |c| c.compute_infer_us),
        (Part::CopyOut, |c| c.compute_output_us),
    ];
    let blocks: Vec<&Counters> = blocks.iter().filter(|block| block.requests > 0).collect();
    if blocks.is_empty() {
        return None;
    }
    let requests: f64 = blocks.iter().map(|block| block.requests as f64).sum();
    let estimate = |(part, us): (Part, Counter)| {
        let mean = blocks.iter().map(|block| us(block) as f64).sum::<f64>() / requests;
        let squares: f64 = blocks.iter().map(|block| (us(block) as f64 - mean * block.requests as f64).powi(2)).sum();
        let n = blocks.len() as f64;
        let half =
            if n > 1.0 { students_t(blocks.len() - 1) * (squares * n / (n - 1.0)).sqrt() / requests } else { 0.0 };
        (part, Estimate::new(mean, (mean - half).max(0.0), mean + half, blocks.len()).scaled(1e-3))
    };
    Some(counters.into_iter().map(estimate).collect())
}

#[cfg(test)]
mod tests;
