//! Simulates loads that queue in virtual time: windows of the real plan, and intervals where the truth is known.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::{
        cell::throughput,
        pairing::{Pair, paired},
        timing::latency,
    },
    model::{
        arrivals::{Arrivals, Rate},
        block::{MeasuredBlock, Offered},
        cell::BlockSpan,
        connection::Traffic,
        counters::Counters,
        difference::Difference,
        estimate::{Estimate, Statistic},
        load::Load,
        machine::BlockMachines,
        part::{Part, StageTimes},
        record::Recorder,
        sample::{Marks, Sample},
        samples::Samples,
        settings::Settings,
        waterfall::Waterfall,
    },
    run::{
        plan::{Plan, Work},
        timed::Timed,
    },
    selftest::simulate::{LANES, Latency, Surplus},
};

/// Workers of the closed loop.
const WORKERS: usize = 8;

/// One run of two lanes at a server that takes one request at a time, under [`WORKERS`] workers, and the difference in
/// throughput found: the second minus the first, in requests per second.
pub fn concurrent_trial(settings: &Settings, service: Latency, surplus: Surplus, seed: u64) -> Option<Difference> {
    let settings = Settings { batches: Vec::new(), concurrency: vec![WORKERS], seed, ..settings.clone() };
    let plan = Plan::new(&settings, &LANES);
    let planned = &plan.stages.first()?.blocks;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rates: [Vec<[f64; 1]>; 2] = [Vec::new(), Vec::new()];
    for (number, block) in planned.iter().enumerate() {
        let Work::Window(window) = block.work else { continue };
        let second = block.variant.lane == LANES[1];
        let progress = number as f64 / planned.len() as f64;
        let completed = completions(window, service, (surplus, second), progress, &mut rng);
        rates[usize::from(second)].push([completed as f64 / window.length.as_secs_f64()]);
    }
    let [first, second] = &rates;
    let pairs: Vec<Pair<'_>> = second.iter().zip(first).map(|(b, a)| (&b[..], &a[..])).collect();
    paired(&pairs, Statistic::Mean, 1.0, seed)
}

/// The requests that complete in a window of a closed loop. The server's queue is never empty, so they complete one service
/// time after the other.
pub(super) fn completions(
    window: Timed,
    service: Latency,
    (surplus, second): (Surplus, bool),
    progress: f64,
    rng: &mut ChaCha8Rng,
) -> usize {
    let (mut at, mut completed) = (0.0, 0_usize);
    while at < window.time().as_secs_f64() {
        at += surplus.of(service.draw(progress, rng), second) / 1e3;
        completed += usize::from((window.ramp.as_secs_f64()..window.time().as_secs_f64()).contains(&at));
    }
    completed
}

/// Mean service time at the queue, in ms.
const SERVICE_MS: f64 = 10.0;
/// Share of the time in which its server is busy.
const UTILISATION: f64 = 0.5;
/// Requests of a window.
const REQUESTS: f64 = 500.0;
/// Windows of a run.
const WINDOWS: u64 = 8;

/// A quantity whose truth is known, and the share of the trials whose interval contained it.
pub struct Coverage {
    /// Its name.
    pub quantity: &'static str,
    /// The share.
    pub covered: f64,
}

/// Intervals of an open loop at a queue with Poisson arrivals and exponential service times (M/M/1). Its time in the system
/// is exponential, so all quantiles are known; so is the mean time in each stage.
pub fn coverage(trials: usize, seed: u64) -> Vec<Coverage> {
    let mean_ms = SERVICE_MS / (1.0 - UTILISATION);
    let rate = UTILISATION / SERVICE_MS * 1e3;
    let truths = [
        ("mean", mean_ms),
        ("p50", mean_ms * 2_f64.ln()),
        ("p95", mean_ms * 20_f64.ln()),
        ("p99", mean_ms * 100_f64.ln()),
        ("throughput", rate),
        ("time in the queue, by stage times,", mean_ms - SERVICE_MS),
        ("time in compute, by stage times,", SERVICE_MS),
        ("time in compute, by the server's counters,", SERVICE_MS),
    ];
    let mut covered = [0_usize; 8];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..trials {
        let Some(blocks) = (0..WINDOWS).map(|_| window(rate, &mut rng)).collect::<Option<Vec<_>>>() else { continue };
        let Ok(offered) = Rate::per_second(rate) else { continue };
        let load = Load::Open { arrivals: Arrivals::Poisson, rate: offered, batch: 1 };
        let Some(latency) = latency(&blocks, load, |sample| sample.latency, seed) else { continue };
        let [queue, compute, counted] = server_times(&blocks, seed);
        let (p95, p99, rate) = (latency.p95.known(), latency.p99.known(), throughput(load, &blocks, seed));
        let found = [Some(latency.mean), Some(latency.p50), p95, p99, rate, queue, compute, counted];
        for ((count, found), (_, truth)) in covered.iter_mut().zip(found).zip(truths) {
            let contains = |e: Estimate| e.low <= truth && truth <= e.high;
            *count += usize::from(found.is_some_and(contains));
        }
    }
    let share = |((quantity, _), count)| Coverage { quantity, covered: count as f64 / trials.max(1) as f64 };
    truths.into_iter().zip(covered).map(share).collect()
}

/// Time in the queue and in compute by the stage times of the responses, and in compute by the server's counters.
fn server_times(blocks: &[MeasuredBlock], seed: u64) -> [Option<Estimate>; 3] {
    let (mut samples, mut spans) = (Vec::new(), Vec::new());
    for block in blocks {
        spans.push(BlockSpan::new(block, samples.len()));
        samples.extend_from_slice(block.recorder.samples());
    }
    let counters: Vec<Counters> = blocks.iter().filter_map(|block| block.server.as_ref().ok().copied()).collect();
    let staged = Waterfall::new(&Samples::new(&samples), &spans, &[], seed);
    samples.iter_mut().for_each(|sample| sample.stages = None);
    let counted = Waterfall::new(&Samples::new(&samples), &spans, &counters, seed);
    let ms = |waterfall: &Option<Waterfall>, part| {
        waterfall.as_ref().and_then(|waterfall| waterfall.parts.iter().find(|time| time.part == part)?.ms)
    };
    [ms(&staged, Part::Queue), ms(&staged, Part::Infer), ms(&counted, Part::Infer)]
}

/// A window of the queue, after a ramp that makes it forget that it was empty.
fn window(rate: f64, rng: &mut ChaCha8Rng) -> Option<MeasuredBlock> {
    let length = REQUESTS / rate;
    let mut exponential = |mean: f64| -mean * (1.0 - rng.random::<f64>()).ln();
    let (mut at, mut free_at) = (-200.0 * SERVICE_MS / 1e3, f64::NEG_INFINITY);
    let (mut recorder, mut offered, mut counters) = (Recorder::new().ok()?, Offered::default(), Counters::default());
    loop {
        at += exponential(1.0 / rate);
        if at >= length {
            break;
        }
        let (begins, service) = (free_at.max(at), exponential(SERVICE_MS / 1e3));
        free_at = begins + service;
        offered.completed_meanwhile += u64::from((0.0..length).contains(&free_at));
        if at >= 0.0 {
            offered.scheduled += 1;
            let (start, latency) = (Duration::from_secs_f64(at), Duration::from_secs_f64(free_at - at));
            let us = |seconds: f64| (seconds * 1e6).round() as u32;
            let stages = StageTimes([0, 0, us(begins - at), 0, 0, us(service), 0, 0]);
            let marks = Marks { first_byte: latency, last_byte: latency, decoded: latency, ..Marks::default() };
            recorder.add(Sample { start, latency, marks, stages: Some(stages), ..Sample::default() });
            counters.requests += 1;
            counters.queue_us += u64::from(us(begins - at));
            counters.compute_infer_us += u64::from(us(service));
        }
    }
    Some(MeasuredBlock {
        start: Duration::ZERO,
        wall: Duration::from_secs_f64(length),
        recorder,
        after_idle: None,
        outside: 0,
        connections: 0,
        reconnects: 0,
        cpu: None,
        busiest_thread: None,
        machines: BlockMachines::default(),
        traffic: Traffic::default(),
        offered: Some(offered),
        server: Ok(counters),
        counted: None,
    })
}
