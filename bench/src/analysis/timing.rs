//! Calculates figures from samples: latency percentiles, connection times, open loops.

use crate::{
    analysis::stats::{bootstrap, quantile, tail_percentile},
    model::{
        block::{MeasuredBlock, Offered},
        cell::{Latency, OpenLoopFigures, Times},
        estimate::Statistic,
        sample::Sample,
    },
};

impl Times {
    /// The median times of `samples`; `None` without samples.
    pub fn new(samples: &[Sample], seed: u64) -> Option<Self> {
        let median = |time: fn(&Sample) -> Option<std::time::Duration>| {
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

impl OpenLoopFigures {
    /// The figures of an open loop's windows; `None` for a closed loop.
    pub fn new(blocks: &[MeasuredBlock], seed: u64) -> Option<Self> {
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
        let service: Vec<f64> = samples().map(|s| s.service().as_secs_f64() * 1e6).collect();
        (wall > 0.0).then(|| Self {
            offered_per_s: schedule.scheduled as f64 / wall,
            achieved_per_s: schedule.completed_meanwhile as f64 / wall,
            schedule,
            service_ms: latency(&service, seed),
            lag_ms: lag(0.5).zip(lag(0.99)).zip(lag(1.0)).map(|((p50, p99), most)| [p50, p99, most]),
        })
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
