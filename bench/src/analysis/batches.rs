//! Intervals of values that depend on each other, by batch means. Pure functions.
//!
//! Requests that wait in one queue wait alike, so many of them tell less than as many independent ones: intervals that
//! resample requests are too narrow. Here blocks are the observations, because other lanes run between them; a few blocks
//! are divided into stretches of time. The spread of these batches gives the interval (non-overlapping batch means,
//! Schmeiser 1982; for quantiles the share of each batch below the quantile, Woodruff 1952).

use std::time::Duration;

use crate::{
    analysis::stats::{mean, quantile, samples_needed, students_t},
    model::{
        block::MeasuredBlock,
        estimate::{Estimate, Percentile},
        sample::Sample,
    },
};

/// Number of batches of few blocks: more would be too short to be independent, fewer give wide intervals.
const AIMED_AT: usize = 20;
/// Fewest batches for an interval.
const FEWEST: usize = 5;
/// Fewest values of a batch, if a block is divided.
const LEAST_VALUES: usize = 100;
/// A tail needs this many times the number of independent values: slow requests come together.
const DEPENDENT: usize = 10;

/// Values in stretches of time.
pub struct Batches {
    batches: Vec<Vec<f64>>,
    /// All values, ascending.
    sorted: Vec<f64>,
}

impl Batches {
    /// The times of the requests of all blocks, in ms; `None` if there are too few for batches.
    pub fn of_blocks(blocks: &[MeasuredBlock], time: fn(&Sample) -> Duration) -> Option<Self> {
        let in_order = |block: &MeasuredBlock| {
            // The workers' samples are one after the other.
            let mut samples: Vec<&Sample> = block.recorder.samples().iter().collect();
            samples.sort_by_key(|sample| sample.start);
            samples.into_iter().map(|sample| time(sample).as_secs_f64() * 1e3).collect()
        };
        Self::new(blocks.iter().map(in_order).collect())
    }

    /// Divides blocks of values, each in the order of time, into batches; `None` if there are too few values.
    pub fn new(blocks: Vec<Vec<f64>>) -> Option<Self> {
        let most = if blocks.len() >= FEWEST { 1 } else { AIMED_AT.div_ceil(blocks.len().max(1)) };
        let divided = |block: Vec<f64>| {
            let parts = (block.len() / LEAST_VALUES).clamp(1, most);
            block.chunks(block.len().div_ceil(parts).max(1)).map(<[f64]>::to_vec).collect::<Vec<_>>()
        };
        let batches: Vec<Vec<f64>> = blocks.into_iter().flat_map(divided).collect();
        let mut sorted = batches.concat();
        sorted.sort_unstable_by(f64::total_cmp);
        (batches.len() >= FEWEST).then_some(Self { batches, sorted })
    }

    /// The mean.
    pub fn mean(&self) -> Option<Estimate> {
        let mean = mean(&self.sorted)?;
        let half = self.half_interval(mean, |value| value);
        Some(Estimate::new(mean, mean - half, mean + half, self.sorted.len()))
    }

    /// The median.
    pub fn median(&self) -> Option<Estimate> {
        self.quantile(0.5)
    }

    /// A tail percentile; unknown with too few values.
    pub fn tail(&self, p: f64) -> Percentile {
        let (n, needed) = (self.sorted.len(), DEPENDENT * samples_needed(p));
        match self.quantile(p) {
            Some(estimate) if n >= needed => Percentile::Known(estimate),
            _ => Percentile::Unknown {
                value: None,
                reason: format!(
                    "p{:.0} with an interval needs {needed} samples that wait for each other, there are {n}",
                    p * 100.0
                ),
            },
        }
    }

    /// The `p`-quantile; an interval that would end beyond the values ends at the last one. To state only intervals that end
    /// before it would select those whose spread is underestimated by chance.
    fn quantile(&self, p: f64) -> Option<Estimate> {
        let half = self.half_interval_of_share(p)?;
        let at = |p: f64| quantile(&self.sorted, p);
        Some(Estimate::new(at(p)?, at(p - half)?, at(p + half)?, self.sorted.len()))
    }

    /// Half the 95 % interval of the share of values up to the `p`-quantile.
    fn half_interval_of_share(&self, p: f64) -> Option<f64> {
        let value = quantile(&self.sorted, p)?;
        let dependent = self.half_interval(p, |x| f64::from(x <= value));
        // Few batches may agree by chance; independent values have this spread.
        let independent = students_t(self.batches.len() - 1) * (p * (1.0 - p) / self.sorted.len() as f64).sqrt();
        Some(dependent.max(independent))
    }

    /// Half the 95 % interval of the mean of `of`, whose value is `mean`: batches may differ in length.
    fn half_interval(&self, mean: f64, of: impl Fn(f64) -> f64) -> f64 {
        let (count, n) = (self.batches.len() as f64, self.sorted.len() as f64);
        let deviation = |batch: &Vec<f64>| batch.iter().map(|&value| of(value) - mean).sum::<f64>();
        let squares: f64 = self.batches.iter().map(|batch| deviation(batch).powi(2)).sum();
        students_t(self.batches.len() - 1) * (squares * count / (count - 1.0)).sqrt() / n
    }
}

/// The mean of a few independent values with the interval of Student's t; `None` for fewer than three.
pub fn of_independent(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    let mean = mean(values).filter(|_| n >= 3)?;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let half = students_t(n - 1) * (variance / n as f64).sqrt();
    Some(Estimate::new(mean, mean - half, mean + half, n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn values_that_depend_on_each_other_have_wider_intervals() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let independent: Vec<f64> = (0..4_000).map(|_| rng.random::<f64>()).collect();
        let mut level = 0.5;
        let walk = |_: usize| {
            level = 0.99 * level + 0.01 * rng.random::<f64>();
            level
        };
        let dependent: Vec<f64> = (0..4_000).map(walk).collect();
        let width = |values: &[f64]| {
            let spread = quantile(&Batches::new(vec![values.to_vec()]).unwrap().sorted, 0.75).unwrap()
                - quantile(&Batches::new(vec![values.to_vec()]).unwrap().sorted, 0.25).unwrap();
            let median = Batches::new(values.chunks(500).map(<[f64]>::to_vec).collect()).unwrap().median().unwrap();
            (median.high - median.low) / spread
        };
        assert!(width(&dependent) > 4.0 * width(&independent), "{} {}", width(&dependent), width(&independent));
    }

    #[test]
    fn few_values_have_no_batches() {
        assert!(Batches::new(vec![vec![1.0; 50]; 4]).is_none());
        let few = Batches::new(vec![vec![1.0, 2.0]; 5]).unwrap();
        assert_eq!(few.mean().unwrap().value, 1.5);
        // The blocks differ by more than their values: the interval is all of them.
        let drifting = Batches::new((0..6).map(|i| vec![f64::from(i); 8]).collect()).unwrap().median().unwrap();
        assert_eq!((drifting.low, drifting.value, drifting.high), (0.0, 2.5, 5.0));
        assert!(matches!(few.tail(0.99), Percentile::Unknown { .. }));
        assert!(Batches::new(vec![Vec::new(); 8]).is_none_or(|batches| batches.mean().is_none()));
    }

    #[test]
    fn a_few_independent_values_have_students_interval() {
        let e = of_independent(&[9.0, 10.0, 11.0]).unwrap();
        // 4.303 / √3
        assert!((e.value - 10.0).abs() < 1e-12 && (e.high - 10.0 - 2.4844).abs() < 1e-3, "{e:?}");
        assert_eq!(of_independent(&[1.0, 2.0]), None);
    }
}
