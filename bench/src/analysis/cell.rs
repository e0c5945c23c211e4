//! One cell: one lane under one load, from what was measured to what is reported.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::{
        stats::{Estimate, Percentile, Statistic, bootstrap, quantile, tail_percentile},
        waterfall::{Part, Place, Waterfall},
    },
    client::{Policy, Traffic, target::Protocol},
    model::{
        encoding::Encoding,
        lane::Lane,
        record::{Failures, Recorder, Sample},
        transport::Transport,
    },
    run::{
        journal::Done,
        open::Offered,
        plan::{Arm, Load},
    },
    server::counters::Counters,
};

use crate::report::{
    axes::{OpenLoop, Times},
    samples::Samples,
};

/// Slices of a concurrent window whose rates give the interval of its throughput.
const WINDOW_SLICES: u32 = 10;

/// What was measured in one block or window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredBlock {
    /// Start of the block, since the start of the run.
    pub start: Duration,
    /// Its length on the clock.
    pub wall: Duration,
    /// The requests completed in it, and its failures.
    pub recorder: Recorder,
    /// Requests completed outside the window (ramp and drain); 0 for serial blocks.
    pub outside: u64,
    /// TCP connections used.
    pub connections: u64,
    /// Connections opened anew within the block.
    pub reconnects: u64,
    /// CPU time of this program in the block, where known.
    pub cpu: Option<Duration>,
    /// What the connections carried in the block, a window's ramp and drain included.
    pub traffic: Traffic,
    /// What became of the schedule, in an open loop.
    pub offered: Option<Offered>,
    /// The server's counters over the block.
    pub server: Result<Counters, String>,
    /// Requests answered according to the server, from idle to idle; `None` when not comparable.
    pub counted: Option<u64>,
}

/// Requests before the measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarmUp {
    /// How many were sent.
    pub sent: u64,
    /// How many failed.
    pub failures: Failures,
    /// Latency of the very first, in µs.
    #[serde(default)]
    pub first_us: Option<u64>,
    /// Median latency of the last group, in µs.
    #[serde(default)]
    pub last_us: Option<u64>,
    /// Whether it became steady (the medians of two groups in a row within 10 %), where that was judged.
    #[serde(default)]
    pub steady: Option<bool>,
}

impl WarmUp {
    /// Adds what was sent before the run was stopped: the very first request was then.
    pub fn follows(&mut self, mut first: Self) {
        first.failures.merge(std::mem::take(&mut self.failures));
        self.failures = first.failures;
        self.sent += first.sent;
        self.first_us = first.first_us.or(self.first_us);
    }
}

/// Everything measured for one cell.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was measured.
    pub arm: Arm,
    /// The load.
    pub load: Load,
    /// Bytes of a request's body (mean over the photographs).
    pub request_bytes: usize,
    /// Requests before the measurement.
    pub warm_up: WarmUp,
    /// Blocks, in order.
    pub blocks: Vec<MeasuredBlock>,
}

impl Measured {
    /// Adds what a turn brought.
    pub fn add(&mut self, done: Done) {
        match done {
            Done::WarmUp(warm_up) => self.warm_up = warm_up,
            Done::Block(block) => self.blocks.push(*block),
        }
    }

    /// Requests sent in its blocks.
    pub fn requests(&self) -> usize {
        self.blocks.iter().map(|block| block.recorder.sent() as usize).sum()
    }
}

/// One lane under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The lane.
    pub lane: Lane,
    /// The load.
    pub load: Load,
    /// Whose connections the requests went out on.
    #[serde(default)]
    pub connection: Policy,
    /// The form of the images; in reports of before there was a choice, none.
    #[serde(default)]
    pub payload: Option<Encoding>,
    /// The way of the tensors.
    #[serde(default)]
    pub transport: Transport,
    /// Requests sent: completed, failed, abandoned, and completed outside the window.
    pub sent: u64,
    /// Requests completed and measured.
    pub completed: u64,
    /// Requests completed in the ramp or after the window: not measured.
    pub outside_window: u64,
    /// Requests given up in flight at an interrupt.
    pub abandoned: u64,
    /// Requests that failed.
    pub failures: Failures,
    /// Requests before the measurement.
    pub warm_up: WarmUp,
    /// Measured time on the clock, in seconds.
    pub wall_s: f64,
    /// CPU time of this program meanwhile, in seconds, where known.
    #[serde(default)]
    pub client_cpu_s: Option<f64>,
    /// Completed images by measured time.
    pub images_per_s: Option<Estimate>,
    /// Completion minus send.
    pub latency_ms: Option<Latency>,
    /// p50 with the client's preprocessing of the batch added; for tensor lanes.
    pub charged_p50_ms: Option<Estimate>,
    /// Bytes of a request's body.
    pub request_bytes: usize,
    /// Bytes of an answer's body.
    pub response_bytes: usize,
    /// TCP connections used at a time.
    pub connections: u64,
    /// Connections opened anew while measuring.
    pub reconnects: u64,
    /// What the connections carried while measuring, a window's ramp and drain included.
    #[serde(default)]
    pub traffic: Traffic,
    /// How a request went on, seen from the client.
    #[serde(default)]
    pub times: Option<Times>,
    /// What an open loop is about.
    #[serde(default)]
    pub open: Option<OpenLoop>,
    /// The server's view of the measured window.
    pub server: Option<ServerSide>,
    /// Why there is none.
    pub server_missing: Option<String>,
    /// Where the mean latency goes.
    pub waterfall: Option<Waterfall>,
    /// Which samples belong to which block.
    pub blocks: Vec<Block>,
    /// Every measured request; in a file of its own.
    #[serde(skip)]
    pub samples: Samples,
    /// Filled buckets of the latency histogram: upper bound in µs, count.
    pub histogram_us: Vec<(f64, u64)>,
}

/// Latency statistics in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Mean.
    pub mean: Estimate,
    /// Median.
    pub p50: Estimate,
    /// 95th percentile.
    pub p95: Percentile,
    /// 99th percentile.
    pub p99: Percentile,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// What the server's counters say about the measured window; times are means for each request, in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSide {
    /// Requests answered in the window.
    pub requests: u64,
    /// Images in them.
    pub images: u64,
    /// Batches run.
    pub executions: u64,
    /// The whole stay in the server.
    pub request_ms: f64,
    /// Waiting for an instance or for batch mates.
    pub queue_ms: f64,
    /// Inputs to the device.
    pub compute_input_ms: f64,
    /// The model.
    pub compute_infer_ms: f64,
    /// Outputs from the device.
    pub compute_output_ms: f64,
    /// Requests that the client saw answered, idle to idle.
    pub expected: u64,
    /// Requests that the server counted meanwhile; `None` when not comparable.
    pub counted: Option<u64>,
}

/// A contiguous run of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Block {
    /// Start, in seconds since the start of the run.
    pub start_s: f64,
    /// Index of its first sample.
    pub first: usize,
    /// Number of samples.
    pub samples: usize,
    /// Length on the clock, in seconds.
    pub wall_s: f64,
}

impl Cell {
    /// Computes a cell. `preprocess_ms` is the client's preprocessing of one image.
    /// `None` when nothing was sent at all.
    pub fn new(measured: Measured, preprocess_ms: Option<Estimate>, seed: u64) -> Option<Self> {
        let Measured { arm, load, request_bytes, warm_up, blocks } = measured;
        let lane = arm.lane;
        let traffic = blocks.iter().fold(Traffic::default(), |sum, block| sum.plus(block.traffic));
        let open = OpenLoop::new(&blocks, seed);
        let throughput = throughput(load, &blocks, seed);
        let server = server_side(&blocks);
        // Counters that are not of this run's requests tell nothing of their parts.
        let counters: Vec<Counters> = match &server {
            Ok(_) => blocks.iter().filter_map(|block| block.server.as_ref().ok().copied()).collect(),
            Err(_) => Vec::new(),
        };
        let mut spans = Vec::with_capacity(blocks.len());
        let (mut wall, mut outside, mut connections, mut reconnects) = (Duration::ZERO, 0, 0, 0);
        let client_cpu_s = blocks.iter().map(|block| block.cpu).sum::<Option<Duration>>().map(|cpu| cpu.as_secs_f64());
        let mut recorder: Option<Recorder> = None;
        for block in blocks {
            spans.push(Block {
                start_s: block.start.as_secs_f64(),
                first: recorder.as_ref().map_or(0, |r| r.samples().len()),
                samples: block.recorder.samples().len(),
                wall_s: block.wall.as_secs_f64(),
            });
            wall += block.wall;
            outside += block.outside;
            connections = connections.max(block.connections);
            reconnects += block.reconnects;
            match &mut recorder {
                Some(all) => all.merge(block.recorder),
                None => recorder = Some(block.recorder),
            }
        }
        let recorder = recorder?;
        let samples = Samples::new(recorder.samples());
        let latency = latency(&samples.latency_us, seed);
        let charged_p50_ms = match (&latency, preprocess_ms) {
            (Some(latency), Some(image)) if Protocol::of(lane) != Protocol::Jpeg => {
                Some(latency.p50.plus(image.scaled(load.batch() as f64)))
            }
            _ => None,
        };
        let (server, server_missing) = match server {
            Ok(server) => (Some(server), None),
            Err(reason) => (None, Some(reason)),
        };
        Some(Self {
            lane,
            load,
            connection: arm.connection,
            payload: Some(arm.payload),
            transport: arm.transport,
            traffic,
            times: Times::new(recorder.samples(), seed),
            open,
            sent: recorder.sent() + outside,
            completed: recorder.samples().len() as u64,
            outside_window: outside,
            abandoned: recorder.abandoned,
            warm_up,
            wall_s: wall.as_secs_f64(),
            client_cpu_s,
            images_per_s: throughput,
            latency_ms: latency,
            charged_p50_ms,
            request_bytes,
            response_bytes: recorder.response_bytes,
            connections,
            reconnects,
            server,
            server_missing,
            waterfall: Waterfall::new(&samples.parts_us, &samples.service_us(), &counters, seed),
            blocks: spans,
            samples,
            histogram_us: recorder.buckets_us(),
            failures: recorder.failures,
        })
    }
}

impl Cell {
    /// The server's work on a request in ms; reading the body goes at the link's pace and does not count, where it is
    /// told apart.
    pub fn server_ms(&self) -> Option<f64> {
        let staged = self.waterfall.as_ref().and_then(|w| Some(w.at(Place::Server)? - w.ms(Part::Receive)?));
        staged.or_else(|| self.server.as_ref().map(|server| server.request_ms))
    }
}

pub(crate) fn latency(latency_us: &[f64], seed: u64) -> Option<Latency> {
    let mut sorted = latency_us.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let sorted: Vec<f64> = sorted.into_iter().map(|us| us / 1e3).collect();
    Some(Latency {
        mean: bootstrap(&sorted, Statistic::Mean, seed)?,
        p50: bootstrap(&sorted, Statistic::Median, seed)?,
        p95: tail_percentile(&sorted, 0.95),
        p99: tail_percentile(&sorted, 0.99),
        min: quantile(&sorted, 0.0)?,
        max: quantile(&sorted, 1.0)?,
    })
}

/// Completed images by time on the clock. One after the other, the interval is that of the mean
/// latency, which the rate is the inverse of; in a window, that of the rates of its slices.
fn throughput(load: Load, blocks: &[MeasuredBlock], seed: u64) -> Option<Estimate> {
    let wall: Duration = blocks.iter().map(|block| block.wall).sum();
    let samples = || blocks.iter().flat_map(|block| block.recorder.samples());
    // An open loop's samples are those that were to be sent in the window: what was completed in it is counted apart.
    let meanwhile = |block: &MeasuredBlock| {
        block.offered.map_or(block.recorder.samples().len() as u64, |offered| offered.completed_meanwhile)
    };
    let completed = blocks.iter().map(meanwhile).sum::<u64>() as usize;
    if wall.is_zero() || completed == 0 {
        return None;
    }
    let batch = load.batch() as f64;
    let rate = completed as f64 * batch / wall.as_secs_f64();
    match load {
        Load::Serial { .. } => {
            let latencies: Vec<f64> = samples().map(|s| s.latency.as_secs_f64()).collect();
            let mean = bootstrap(&latencies, Statistic::Mean, seed)?;
            Some(Estimate::new(rate, rate * mean.value / mean.high, rate * mean.value / mean.low, completed))
        }
        Load::Concurrent { .. } | Load::Open { .. } => {
            let rates: Vec<f64> = blocks
                .iter()
                .flat_map(|block| {
                    let slice = block.wall / WINDOW_SLICES;
                    (0..WINDOW_SLICES).map(move |i| {
                        let from = block.start + slice * i;
                        let ended = |s: &&Sample| (from..from + slice).contains(&s.end());
                        block.recorder.samples().iter().filter(ended).count() as f64 * batch / slice.as_secs_f64()
                    })
                })
                .collect();
            let mean = bootstrap(&rates, Statistic::Mean, seed)?;
            Some(Estimate::new(rate, mean.low, mean.high, completed))
        }
    }
}

fn server_side(blocks: &[MeasuredBlock]) -> Result<ServerSide, String> {
    let mut counters = Counters::default();
    let (mut expected, mut counted) = (0, Some(0));
    for block in blocks {
        counters = counters.plus(block.server.as_ref().map_err(Clone::clone)?);
        expected += block.recorder.samples().len() as u64 + block.outside;
        counted = counted.zip(block.counted).map(|(a, b)| a + b);
    }
    let mean_ms = |us: u64| if counters.requests == 0 { 0.0 } else { us as f64 / counters.requests as f64 / 1e3 };
    if counters.requests == 0 && expected > 0 && counted == Some(0) {
        return Err("the server's counters stood still".to_owned());
    }
    Ok(ServerSide {
        requests: counters.requests,
        images: counters.images,
        executions: counters.executions,
        request_ms: mean_ms(counters.request_us),
        queue_ms: mean_ms(counters.queue_us),
        compute_input_ms: mean_ms(counters.compute_input_us),
        compute_infer_ms: mean_ms(counters.compute_infer_us),
        compute_output_ms: mean_ms(counters.compute_output_us),
        expected,
        counted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start_ms: u64, latencies_ms: &[u64], wall_ms: u64, server: Counters) -> MeasuredBlock {
        let mut recorder = Recorder::new().unwrap();
        let mut start = Duration::from_millis(start_ms);
        for &latency in latencies_ms {
            let latency = Duration::from_millis(latency);
            recorder.add(Sample { start, latency, ..Sample::default() });
            start += latency;
        }
        MeasuredBlock {
            start: Duration::from_millis(start_ms),
            wall: Duration::from_millis(wall_ms),
            counted: Some(server.requests),
            recorder,
            outside: 0,
            connections: 1,
            reconnects: 0,
            cpu: None,
            traffic: Traffic::default(),
            offered: None,
            server: Ok(server),
        }
    }

    fn measured(load: Load, blocks: Vec<MeasuredBlock>) -> Measured {
        Measured { arm: Arm::plain(Lane::ONNX_HTTP), load, request_bytes: 602_112, warm_up: WarmUp::default(), blocks }
    }

    #[test]
    fn serial_blocks_add_up() {
        let first = Counters { requests: 2, images: 8, executions: 2, compute_infer_us: 10_000, ..Counters::default() };
        let second = Counters { requests: 1, images: 4, executions: 1, compute_infer_us: 2_000, ..Counters::default() };
        let blocks = vec![block(0, &[10, 20], 40, first), block(100, &[30], 40, second)];
        let image = Estimate::new(2.0, 1.5, 2.5, 20);
        let cell = Cell::new(measured(Load::Serial { batch: 4 }, blocks), Some(image), 1).unwrap();
        assert_eq!((cell.sent, cell.completed), (3, 3));
        // 3 requests of 4 images in 80 ms on the clock; not 4 / p50.
        assert_eq!(cell.images_per_s.unwrap().value, 150.0);
        assert_eq!(cell.latency_ms.as_ref().unwrap().p50.value, 20.0);
        assert_eq!(cell.charged_p50_ms.unwrap().value, 28.0);
        let server = cell.server.unwrap();
        assert_eq!((server.requests, server.images, server.compute_infer_ms), (3, 12, 4.0));
        assert_eq!((server.expected, server.counted), (3, Some(3)));
        assert_eq!(cell.blocks.iter().map(|b| (b.first, b.samples)).collect::<Vec<_>>(), [(0, 2), (2, 1)]);
    }

    #[test]
    fn a_windows_rate_is_completed_work_by_its_length() {
        let counters = Counters { requests: 100, ..Counters::default() };
        let block = block(1_000, &[10; 100], 1_001, counters);
        let cell = Cell::new(measured(Load::Concurrent { concurrency: 1, batch: 1 }, vec![block]), None, 1).unwrap();
        let rate = cell.images_per_s.unwrap();
        assert!((rate.value - 100.0 / 1.001).abs() < 1e-9);
        assert!(rate.low >= 89.0 && rate.high <= 110.0, "steady work has a narrow interval: {rate:?}");
    }

    #[test]
    fn counters_that_stand_still_are_not_zero_time() {
        let cell =
            Cell::new(measured(Load::Serial { batch: 1 }, vec![block(0, &[5], 5, Counters::default())]), None, 1);
        let cell = cell.unwrap();
        assert_eq!((cell.server, cell.server_missing.unwrap().as_str()), (None, "the server's counters stood still"));
    }
}
