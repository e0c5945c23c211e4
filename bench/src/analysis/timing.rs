//! Calculates figures from samples: latency percentiles, connection times, open loops.

use std::time::Duration;

use crate::{
    analysis::{
        batches::Batches,
        pairing::{Pair, paired},
        stats::{bootstrap, conservative_quantile, quantile, tail_percentile},
    },
    model::{
        block::{MeasuredBlock, Offered},
        cell::{AfterIdle, Latency, OpenLoopFigures, Times},
        estimate::Statistic,
        load::Load,
        sample::Sample,
    },
};

impl Times {
    /// The median times of `samples`; `None` without samples.
    pub fn new(samples: &[Sample], seed: u64) -> Option<Self> {
        let median = |time: fn(&Sample) -> Option<Duration>| {
            let ms: Option<Vec<f64>> = samples.iter().map(|sample| Some(time(sample)?.as_secs_f64() * 1e3)).collect();
            bootstrap(&ms?, Statistic::Median, seed)
        };
        Some(Self {
            connect_ms: median(|s| Some(s.marks.connected))?,
            tls_ms: median(|s| s.marks.tls),
            first_byte_ms: median(|s| Some(s.marks.first_byte))?,
            last_byte_ms: median(|s| Some(s.marks.last_byte))?,
        })
    }
}

impl AfterIdle {
    /// The first requests of blocks, compared with the rest of their blocks; `None` without any.
    pub fn new(blocks: &[MeasuredBlock], seed: u64) -> Option<Self> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let pairs: Vec<([f64; 1], Vec<f64>)> = blocks
            .iter()
            .filter_map(|block| {
                let rest = block.recorder.samples().iter().map(|sample| ms(sample.latency)).collect();
                Some(([ms(block.after_idle?)], rest))
            })
            .collect();
        let first: Vec<f64> = pairs.iter().map(|([first], _)| *first).collect();
        let pairs: Vec<Pair<'_>> = pairs.iter().map(|(first, rest)| (&first[..], &rest[..])).collect();
        let extra_ms = paired(&pairs, Statistic::Median, 1.0, seed)?.difference;
        Some(Self { latency_ms: bootstrap(&first, Statistic::Median, seed)?, extra_ms })
    }
}

impl OpenLoopFigures {
    /// The figures of an open loop's windows; `None` for a closed loop.
    pub fn new(blocks: &[MeasuredBlock], load: Load, seed: u64) -> Option<Self> {
        let mut schedule = Offered::default();
        for offered in blocks.iter().map(|block| block.offered) {
            let offered = offered?;
            schedule.scheduled += offered.scheduled;
            schedule.completed_meanwhile += offered.completed_meanwhile;
            schedule.unsent += offered.unsent;
            schedule.waited += offered.waited;
        }
        let wall: f64 = blocks.iter().map(|block| block.wall.as_secs_f64()).sum();
        let samples = || blocks.iter().flat_map(|block| block.recorder.samples());
        let mut lags: Vec<f64> = samples().map(|s| s.lag.as_secs_f64() * 1e3).collect();
        lags.sort_unstable_by(f64::total_cmp);
        let lag = |p| quantile(&lags, p);
        (wall > 0.0).then(|| Self {
            offered_per_s: schedule.scheduled as f64 / wall,
            achieved_per_s: schedule.completed_meanwhile as f64 / wall,
            schedule,
            service_ms: latency(blocks, load, Sample::service, seed),
            lag_ms: lag(0.5).zip(lag(0.99)).zip(lag(1.0)).map(|((p50, p99), most)| [p50, p99, most]),
        })
    }
}

/// The statistics of all blocks' latencies. Requests of a serial load are resampled; under other loads they wait for each
/// other, and stretches of time give the intervals if there are enough of them.
pub(crate) fn latency(
    blocks: &[MeasuredBlock],
    load: Load,
    time: fn(&Sample) -> Duration,
    seed: u64,
) -> Option<Latency> {
    let samples = blocks.iter().flat_map(|block| block.recorder.samples());
    let mut sorted: Vec<f64> = samples.map(|sample| time(sample).as_secs_f64() * 1e3).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let serial = matches!(load, Load::Serial { .. });
    let batches = if serial { None } else { Batches::of_blocks(blocks, time) };
    let tail = |p| batches.as_ref().map_or_else(|| tail_percentile(&sorted, p), |batches| batches.tail(p));
    let resampled = |statistic| bootstrap(&sorted, statistic, seed);
    Some(Latency {
        mean: batches.as_ref().map_or_else(|| resampled(Statistic::Mean), Batches::mean)?,
        p50: batches.as_ref().map_or_else(|| resampled(Statistic::Median), Batches::median)?,
        p95: tail(0.95),
        p99: tail(0.99),
        p95_at_most: conservative_quantile(&sorted, 0.95),
        p99_at_most: conservative_quantile(&sorted, 0.99),
        min: quantile(&sorted, 0.0)?,
        max: quantile(&sorted, 1.0)?,
    })
}
