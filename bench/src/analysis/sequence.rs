//! Confidence sequences: intervals that hold at every block at once, so that they may be looked at after each block and
//! the run may end as soon as they decide. Pure functions.
//!
//! An ordinary 95 % interval that is looked at after each block excludes the truth at some block in far more than 5 % of
//! runs. Here it is the set of means that a mixture of t-tests does not reject (Lai 1976; Wang and Ramdas 2024,
//! "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"): under the true mean the
//! Bayes factor with the prior δ ~ N(0, τ²) on the standardised effect is a martingale, and by Ville's inequality it
//! exceeds 1/α at any block with probability α at most.

use crate::{
    analysis::stats::mean,
    model::estimate::{CONFIDENCE, Estimate},
};

/// Variance τ² of the prior on the standardised effect: effects of about two standard deviations of the blocks are found
/// soonest, others a few blocks later.
const PRIOR_VARIANCE: f64 = 3.0;
/// Most blocks that a forecast looks ahead.
const MOST_BLOCKS: usize = 100_000;

/// The mean of one value for each block, such as the difference of two lanes, with an interval that contains the true mean
/// at all blocks at once with 95 % probability. `None` while the interval is unbounded: for the first few blocks.
pub fn interval(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    let mean = mean(values)?;
    let half = half_interval(n, deviation(values)?)?;
    Some(Estimate::new(mean, mean - half, mean + half, n))
}

/// The standard deviation of the blocks' values; `None` for fewer than two.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    let freedom = values.len().checked_sub(1).filter(|&n| n > 0)? as f64;
    let mean = mean(values)?;
    Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom).sqrt())
}

/// Half the interval after `n` blocks with this standard deviation; `None` while it is unbounded.
pub(super) fn half_interval(n: usize, deviation: f64) -> Option<f64> {
    let blocks = n as f64;
    let spread = 1.0 + blocks * PRIOR_VARIANCE;
    // The Bayes factor is below 1/α while (1 + t²/ν) / (1 + t²/(ν spread)) is below this.
    let bound = (spread.sqrt() / (1.0 - CONFIDENCE)).powf(2.0 / blocks);
    if bound >= spread {
        return None;
    }
    let t_squared_by_freedom = (bound - 1.0) / (1.0 - bound / spread);
    Some(deviation * ((blocks - 1.0) / blocks * t_squared_by_freedom).sqrt())
}

/// What an interval says about two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The difference is below 0.
    Less,
    /// The difference is above 0.
    Greater,
    /// The difference is within the margin.
    Equivalent,
}

/// The decision about a difference, which may be asked for after each block; `None` while it is open. A difference that is
/// clear but within the margin is equivalent.
pub fn decide(interval: Estimate, margin: f64) -> Option<Decision> {
    if -margin <= interval.low && interval.high <= margin {
        return Some(Decision::Equivalent);
    }
    match interval {
        e if e.high < 0.0 => Some(Decision::Less),
        e if e.low > 0.0 => Some(Decision::Greater),
        _ => None,
    }
}

/// The number of blocks after which a decision is expected if mean and deviation stay as they are: `None` if that is
/// beyond any practical number, because the mean is too close to the margin or to 0 without one.
pub fn blocks_until_decided(values: &[f64], margin: f64) -> Option<usize> {
    let mean = mean(values)?;
    let deviation = deviation(values)?;
    let decided = |n: usize| {
        let half = half_interval(n, deviation)?;
        decide(Estimate::new(mean, mean - half, mean + half, n), margin)
    };
    first_decision(values.len(), |n| decided(n).is_some())
}

/// The number of blocks, at least `blocks`, after which `decided` holds; `None` if that is beyond any practical number.
/// The interval shrinks with each block, so the first decision can be found by halving.
pub(super) fn first_decision(blocks: usize, decided: impl Fn(usize) -> bool) -> Option<usize> {
    if !decided(MOST_BLOCKS) {
        return None;
    }
    let (mut open, mut enough) = (1, MOST_BLOCKS);
    while enough - open > 1 {
        let middle = open.midpoint(enough);
        if decided(middle) { enough = middle } else { open = middle }
    }
    Some(enough.max(blocks))
}

/// Whether to look after this many blocks: after each of the first hundred, then after every second, and so on. A look takes
/// time that grows with the blocks, and the interval of 2 % more blocks is 1 % shorter.
pub fn is_due(blocks: usize) -> bool {
    blocks.is_multiple_of((blocks / 50).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::students_t;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    const TRIALS: usize = 1_000;
    const BLOCKS: usize = 200;

    /// The difference of two lanes in a block: skewed like latencies on both sides.
    fn differences(rng: &mut ChaCha8Rng, surplus: f64) -> Vec<f64> {
        let mut exponential = || -(1.0 - rng.random::<f64>()).ln();
        (0..BLOCKS).map(|_| exponential() - exponential() + surplus).collect()
    }

    /// The share of trials in which `found` holds at any block.
    fn peeking(seed: u64, surplus: f64, found: impl Fn(&[f64]) -> bool) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let once = |values: Vec<f64>| (2..=BLOCKS).any(|n| found(&values[..n]));
        (0..TRIALS).filter(|_| once(differences(&mut rng, surplus))).count() as f64 / TRIALS as f64
    }

    fn excludes(interval: Option<Estimate>, truth: f64) -> bool {
        interval.is_some_and(|e| truth < e.low || e.high < truth)
    }

    #[test]
    fn identical_lanes_rarely_differ_at_any_block() {
        let wrong = peeking(1, 0.0, |values| excludes(interval(values), 0.0));
        assert!(wrong <= 0.05, "{wrong}");
    }

    #[test]
    fn an_ordinary_interval_is_wrong_at_some_block_far_more_often() {
        let ordinary = |values: &[f64]| {
            let (n, mean) = (values.len() as f64, mean(values)?);
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let half = students_t(values.len() - 1) * (variance / n).sqrt();
            Some(Estimate::new(mean, mean - half, mean + half, values.len()))
        };
        let wrong = peeking(1, 0.0, |values| excludes(ordinary(values), 0.0));
        assert!(wrong > 0.2, "{wrong}");
    }

    #[test]
    fn a_difference_is_found_and_the_truth_is_contained() {
        let found = peeking(2, 1.0, |values| interval(values).and_then(|e| decide(e, 0.0)) == Some(Decision::Greater));
        assert!(found >= 0.95, "{found}");
        let wrong = peeking(2, 1.0, |values| excludes(interval(values), 1.0));
        assert!(wrong <= 0.05, "{wrong}");
    }

    #[test]
    fn identical_lanes_are_equivalent_within_a_margin() {
        let found =
            peeking(3, 0.0, |values| interval(values).and_then(|e| decide(e, 0.6)) == Some(Decision::Equivalent));
        assert!(found >= 0.95, "{found}");
        let wrong =
            peeking(4, 1.0, |values| interval(values).and_then(|e| decide(e, 0.6)) == Some(Decision::Equivalent));
        assert!(wrong <= 0.05, "a difference beyond the margin: {wrong}");
    }

    #[test]
    fn the_first_blocks_decide_nothing() {
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&[1.0]), None);
        assert_eq!(interval(&[1.0, 1.1, 0.9]), None, "three blocks are too few for any difference");
    }

    #[test]
    fn looks_become_rarer() {
        assert!((1..=100).all(is_due));
        let between = |from: usize, to: usize| (from..to).filter(|&n| is_due(n)).count();
        assert_eq!((between(100, 200), between(1_000, 2_000)), (25 + 17, 45));
    }

    #[test]
    fn the_forecast_falls_with_the_effect() {
        let values = |mean: f64| [mean - 1.0, mean, mean + 1.0, mean - 1.0, mean, mean + 1.0];
        let until = |mean, margin| blocks_until_decided(&values(mean), margin);
        assert!(until(1.0, 0.0).unwrap() < until(0.5, 0.0).unwrap());
        assert!(until(0.0, 0.5).unwrap() < until(0.0, 0.2).unwrap());
        assert_eq!(until(0.0, 0.0), None, "without a margin, equality is never decided");
        let half = |n| half_interval(n, 1.0).unwrap();
        assert!((10..500).all(|n| half(n + 1) < half(n)), "the interval shrinks");
    }
}
