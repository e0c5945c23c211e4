//! Simulates runs in virtual time: the plan's order of blocks against a server whose latency is known. Thousands of
//! trials take a second, and nothing else on the machine affects them.

use std::time::Duration;

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::pairing::{Pair, paired},
    model::{difference::Difference, estimate::Statistic, lane::Lane, sample::Sample, settings::Settings},
    run::{
        open_loop::{OpenLoop, Ticket},
        plan::{Plan, Work},
    },
};

/// Parameters of a scripted server's latency.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Latency without noise, drift and a lane's surplus, in ms.
    pub base_ms: f64,
    /// Standard deviation of the noise, as a share of the base; skewed like latencies, with a mean of 0.
    pub noise: f64,
    /// Slowdown of the machine from the beginning to the end of the run, as a share.
    pub drift: f64,
}

impl Latency {
    /// One latency, at `progress` through the run (0 to 1).
    pub(super) fn draw(self, progress: f64, rng: &mut ChaCha8Rng) -> f64 {
        let exponential = -(1.0 - rng.random::<f64>()).ln();
        self.base_ms * (1.0 + self.noise * (exponential - 1.0)) * (1.0 + self.drift * progress)
    }
}

/// Extra latency of the second of two lanes.
#[derive(Clone, Copy, Debug)]
pub enum Surplus {
    /// Nothing: the lanes are identical.
    None,
    /// A multiple of the latency.
    Factor(f64),
    /// A constant more, in ms.
    Extra(f64),
}

impl Surplus {
    /// A time of the first lane, or of the second with its surplus.
    pub(super) fn of(self, ms: f64, second: bool) -> f64 {
        match self {
            Self::Factor(factor) if second => ms * factor,
            Self::Extra(extra) if second => ms + extra,
            _ => ms,
        }
    }
}

/// The two lanes of every trial.
pub(super) const LANES: [Lane; 2] = [Lane::ONNX_HTTP, Lane::TRT_HTTP];

/// One run of two lanes in virtual time, and the difference found: the second minus the first, in ms.
pub fn trial(settings: &Settings, latency: Latency, surplus: Surplus, seed: u64) -> Option<Difference> {
    let settings = Settings { batches: vec![1], concurrency: Vec::new(), seed, ..settings.clone() };
    let plan = Plan::new(&settings, &LANES);
    let planned = &plan.stages.first()?.blocks;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut clock = Duration::ZERO;
    let mut blocks: [Vec<Vec<f64>>; 2] = [Vec::new(), Vec::new()];
    for (number, block) in planned.iter().enumerate() {
        let second = block.variant.lane == LANES[1];
        let (requests, measured) = match block.work {
            Work::WarmUp { least, .. } => (least, false),
            Work::Requests(n) => (n, true),
            Work::Window(_) => continue,
        };
        let mut samples = Vec::with_capacity(requests);
        for _ in 0..requests {
            let ms = latency.draw(number as f64 / planned.len() as f64, &mut rng);
            let ms = surplus.of(ms, second);
            let sample = Sample { start: clock, latency: Duration::from_secs_f64(ms / 1e3), ..Sample::default() };
            clock = sample.end();
            samples.push(sample.latency.as_secs_f64() * 1e3);
        }
        if measured {
            blocks[usize::from(second)].push(samples);
        }
    }
    let [first, second] = &blocks;
    let pairs: Vec<Pair<'_>> = second.iter().zip(first).map(|(b, a)| (&b[..], &a[..])).collect();
    paired(&pairs, Statistic::Median, 1.0, seed)
}

/// Simulates an open loop with the real schedule and loop, against a server that takes any number of requests at once,
/// each for `service`, and answers none during the stall (begin, end). Returns the ascending latencies from the
/// intended send time, in ms, and the number of requests not sent by the end of the schedule.
pub fn stalled(
    schedule: &[Duration],
    service: Duration,
    stall: (Duration, Duration),
    most_in_flight: usize,
) -> (Vec<f64>, usize) {
    let completion = |sent: Duration| {
        let end = sent + service;
        if (stall.0..stall.1).contains(&end) { stall.1 } else { end }
    };
    let mut open_loop = OpenLoop::new((0..most_in_flight).collect());
    // Requests in flight: when each is complete, on which client, and its ticket.
    let mut busy: Vec<(Duration, usize, Ticket)> = Vec::new();
    let mut latencies = Vec::new();
    let mut complete = |open_loop: &mut OpenLoop<usize>, busy: &mut Vec<(Duration, usize, Ticket)>, until: Duration| {
        while let Some(next) = (0..busy.len()).min_by_key(|&i| busy[i].0).filter(|&i| busy[i].0 <= until) {
            let (end, client, ticket) = busy.swap_remove(next);
            latencies.push((end - ticket.at).as_secs_f64() * 1e3);
            if let Some((client, ticket)) = open_loop.done(client) {
                busy.push((completion(end), client, ticket));
            }
        }
    };
    for (index, &at) in schedule.iter().enumerate() {
        complete(&mut open_loop, &mut busy, at);
        if let Some((client, ticket)) = open_loop.arrive(Ticket { index, at }) {
            busy.push((completion(at), client, ticket));
        }
    }
    let unsent = open_loop.close().len();
    complete(&mut open_loop, &mut busy, Duration::MAX);
    latencies.sort_unstable_by(f64::total_cmp);
    (latencies, unsent)
}
