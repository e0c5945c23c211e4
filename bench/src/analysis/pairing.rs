//! Calculates differences of two lanes, paired over interleaved blocks. Pure functions.
//!
//! Block i of one lane ran next to block i of the other, so a disturbance of the machine affects both and cancels out
//! in their difference. Blocks, not requests, are the independent observations, because requests of one block resemble
//! each other.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::stats::{Z_CONFIDENCE, bootstrap_with, quantile, students_t},
    model::{
        difference::Difference,
        estimate::{Estimate, Statistic},
    },
};

/// Resamples of the blocks.
const RESAMPLES: usize = 2_000;
/// The normal distribution's quantile for 80 % power.
const Z_POWER: f64 = 0.841_621;

/// One block: the samples of the first lane and those of the second.
pub type Pair<'a> = (&'a [f64], &'a [f64]);

/// The difference `statistic(a) - factor × statistic(b)` over blocks in the order in which they ran.
///
/// For the mean each block gives one difference, and the estimate is their mean. For the median it is Hodges and
/// Lehmann's (1963): the median of the differences of all pairs of samples of one block. It needs no median of a block,
/// which for two samples would be their mean, and a drift of both lanes cancels out, which it does not in the difference
/// of two medians over all blocks. A tail percentile has too few samples in one block and is taken over all of them. The
/// interval is the bootstrap's standard error over resampled blocks times Student's t for that many blocks. `None` if no
/// block has samples of both lanes.
pub fn paired(blocks: &[Pair<'_>], statistic: Statistic, factor: f64, seed: u64) -> Option<Difference> {
    let blocks: Vec<Pair<'_>> = blocks.iter().copied().filter(|(a, b)| !a.is_empty() && !b.is_empty()).collect();
    let n = blocks.iter().map(|(a, b)| a.len().min(b.len())).sum();
    let by_difference = |x: f64, y: f64| Some(x - factor * y);
    let by_log_ratio = |x: f64, y: f64| (x > 0.0 && y > 0.0).then(|| (x / y).ln());
    let (difference, log_ratio) = match (&blocks[..], statistic) {
        ([], _) => return None,
        ([(a, b)], _) => {
            let single = |compare: &dyn Fn(f64, f64) -> Option<f64>| {
                let compared = |a: &mut [f64], b: &mut [f64]| compare(statistic.of(a)?, statistic.of(b)?);
                bootstrap_with(a, b, compared, seed)
            };
            (single(&by_difference)?, single(&by_log_ratio))
        }
        (_, Statistic::Median) => {
            let shift = |compare: &dyn Fn(f64, f64) -> Option<f64>| {
                let differences = Differences::of_pairs(&blocks, compare)?;
                over_blocks(blocks.len(), n, |draw| differences.median(draw), seed)
            };
            (shift(&by_difference)?, shift(&by_log_ratio))
        }
        (_, Statistic::Mean) => {
            let values = |compare: &dyn Fn(f64, f64) -> Option<f64>| -> Option<Vec<f64>> {
                let one = |(a, b): &Pair<'_>| compare(statistic.of(&mut a.to_vec())?, statistic.of(&mut b.to_vec())?);
                blocks.iter().map(one).collect()
            };
            let mean = |values: Vec<f64>| {
                let mean = |draw: &[usize]| Some(draw.iter().map(|&i| values[i]).sum::<f64>() / draw.len() as f64);
                over_blocks(values.len(), n, mean, seed)
            };
            (mean(values(&by_difference)?)?, values(&by_log_ratio).and_then(mean))
        }
        (_, Statistic::P95 | Statistic::P99) => {
            let pooled = |compare: &dyn Fn(f64, f64) -> Option<f64>| {
                let compared = |draw: &[usize]| {
                    let pool = |side: fn(&Pair<'_>) -> Vec<f64>| -> Vec<f64> {
                        draw.iter().flat_map(|&i| side(&blocks[i])).collect()
                    };
                    compare(statistic.of(&mut pool(|p| p.0.to_vec()))?, statistic.of(&mut pool(|p| p.1.to_vec()))?)
                };
                over_blocks(blocks.len(), n, compared, seed)
            };
            (pooled(&by_difference)?, pooled(&by_log_ratio))
        }
    };
    let exp = |e: Estimate| Estimate::new(e.value.exp(), e.low.exp(), e.high.exp(), e.n);
    Some(Difference { difference, ratio: log_ratio.map(exp), blocks: blocks.len(), paired: blocks.len() > 1 })
}

/// Most samples of a block that are compared with those of the other lane; a larger block is represented by this many of
/// its quantiles.
const MOST_COMPARED: usize = 32;

/// The differences of all pairs of samples of one block, ascending, each with the index of its block.
pub(super) struct Differences(pub(super) Vec<(f64, usize)>);

impl Differences {
    /// `None` if a pair cannot be compared.
    pub(super) fn of_pairs(blocks: &[Pair<'_>], compare: impl Fn(f64, f64) -> Option<f64>) -> Option<Self> {
        let mut all = Vec::new();
        for (block, (a, b)) in blocks.iter().enumerate() {
            let (a, b) = (representatives(a), representatives(b));
            for (&x, &y) in a.iter().flat_map(|x| b.iter().map(move |y| (x, y))) {
                all.push((compare(x, y)?, block));
            }
        }
        all.sort_unstable_by(|(x, _), (y, _)| x.total_cmp(y));
        Some(Self(all))
    }

    /// The median of the differences of the drawn blocks.
    pub(super) fn median(&self, draw: &[usize]) -> Option<f64> {
        let mut times = vec![0_usize; draw.iter().max()? + 1];
        draw.iter().for_each(|&block| times[block] += 1);
        let weight = |block: usize| times.get(block).copied().unwrap_or(0);
        let count: usize = self.0.iter().map(|(_, block)| weight(*block)).sum();
        let (below, above) = (count.checked_sub(1)? / 2, count / 2);
        let (mut passed, mut lower) = (0, None);
        for &(difference, block) in &self.0 {
            passed += weight(block);
            if passed > below {
                lower = lower.or(Some(difference));
            }
            if passed > above {
                return Some((lower? + difference) / 2.0);
            }
        }
        None
    }
}

/// The samples, or as many of their quantiles as are compared.
fn representatives(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    if sorted.len() <= MOST_COMPARED {
        return sorted;
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let share = |i: usize| (i as f64 + 0.5) / MOST_COMPARED as f64;
    (0..MOST_COMPARED).filter_map(|i| quantile(&sorted, share(i))).collect()
}

/// A statistic of all blocks with its interval over resampled blocks.
fn over_blocks(blocks: usize, n: usize, statistic: impl Fn(&[usize]) -> Option<f64>, seed: u64) -> Option<Estimate> {
    let mut draw: Vec<usize> = (0..blocks).collect();
    let value = statistic(&draw)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for _ in 0..RESAMPLES {
        draw.fill_with(|| rng.random_range(0..blocks));
        if let Some(replicate) = statistic(&draw) {
            let deviation = replicate - value;
            (count, sum, squares) = (count + 1.0, sum + deviation, squares + deviation * deviation);
        }
    }
    let variance = if count > 0.0 { (squares - sum * sum / count) / count } else { 0.0 };
    let half = variance.max(0.0).sqrt() * widening(blocks);
    Some(Estimate::new(value, value - half, value + half, n))
}

/// Factor from a bootstrap's standard error over `blocks` blocks to half an interval: Student's t times a correction,
/// because the bootstrap divides by n where the sample variance divides by n - 1.
fn widening(blocks: usize) -> f64 {
    let k = blocks.max(2) as f64;
    students_t(blocks.max(2) - 1) * (k / (k - 1.0)).sqrt()
}

/// The number of blocks that would show the effect with 80 % power, given its interval from `blocks` blocks and the
/// bound of the claim; `None` if the effect is too small for any practical number.
pub fn blocks_needed(interval: Estimate, bound: f64, blocks: usize) -> Option<usize> {
    let effect = (interval.value - bound).abs();
    let deviation = (interval.high - interval.low) / 2.0 / widening(blocks) * (blocks.max(2) as f64).sqrt();
    let needed = ((Z_CONFIDENCE + Z_POWER) * deviation / effect).powi(2);
    // Two more, because the deviation is an estimate.
    (needed.is_finite() && needed < 1e6).then(|| needed.ceil() as usize + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};

    /// Blocks of two lanes on a machine that slows down by 30 %: noise, a shared drift, and a surplus of the second
    /// lane.
    fn trial(rng: &mut ChaCha8Rng, blocks: usize, size: usize, surplus: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let mut lane = |block: usize, surplus: f64| {
            let drift = 1.0 + 0.3 * block as f64 / blocks as f64;
            (0..size)
                .map(|_| {
                    // Skewed like latencies: a constant plus the sum of two exponentials.
                    let tail: f64 = (0..2).map(|_| -(1.0 - rng.random::<f64>()).ln()).sum();
                    (40.0 + tail) * drift + surplus
                })
                .collect::<Vec<_>>()
        };
        (0..blocks).map(|block| (lane(block, 0.0), lane(block, surplus))).collect()
    }

    fn difference(trial: &[(Vec<f64>, Vec<f64>)], statistic: Statistic) -> Difference {
        let pairs: Vec<Pair<'_>> = trial.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        paired(&pairs, statistic, 1.0, 1).unwrap()
    }

    /// Identical lanes under drift: a difference is reported in 5 % of trials, within the sampling error of 400 trials.
    #[test]
    fn identical_lanes_rarely_differ() {
        for (blocks, size) in [(3, 5), (5, 6), (10, 3)] {
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let reported = (0..400)
                .filter(|_| difference(&trial(&mut rng, blocks, size, 0.0), Statistic::Median).is_clear())
                .count();
            assert!(reported <= 33, "{blocks} blocks of {size}: {reported} of 400");
        }
    }

    #[test]
    fn the_interval_contains_an_injected_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut found, mut held) = (0, 0);
        for _ in 0..400 {
            let d = difference(&trial(&mut rng, 10, 3, 2.0), Statistic::Median).difference;
            found += usize::from(d.high < 0.0);
            held += usize::from(d.low <= -2.0 && -2.0 <= d.high);
        }
        assert!(found >= 380 && (368..=392).contains(&held), "found {found}, held {held} of 400");
    }

    /// A block of two samples has no median of its own: their mean would turn three slow requests into the difference.
    #[test]
    fn the_difference_of_medians_is_not_one_of_means() {
        let slow = |block: usize| if block < 3 { vec![10.0, 400.0] } else { vec![10.0, 10.0] };
        let blocks: Vec<_> = (0..8).map(|block| (slow(block), vec![10.5, 10.5])).collect();
        let d = difference(&blocks, Statistic::Median);
        assert_eq!(d.difference.value, -0.5);
        assert!((d.ratio.unwrap().value - 10.0 / 10.5).abs() < 1e-12);
    }

    #[test]
    fn a_large_block_is_represented_by_its_quantiles() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let d = difference(&trial(&mut rng, 5, 500, 3.0), Statistic::Median).difference;
        assert!((d.value + 3.0).abs() < 0.2, "{d:?}");
    }

    #[test]
    fn tails_are_taken_over_all_blocks() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let d = difference(&trial(&mut rng, 8, 60, 5.0), Statistic::P95);
        assert!(d.difference.low < -5.0 && -5.0 < d.difference.high && d.is_clear(), "{d:?}");
        assert_eq!((d.blocks, d.paired, d.difference.n), (8, true, 480));
    }

    #[test]
    fn one_block_is_not_a_pair() {
        let a = [5.0, 6.0, 7.0, 8.0];
        let b = [1.0, 2.0, 3.0];
        let d = paired(&[(&a, &b)], Statistic::Mean, 1.0, 1).unwrap();
        assert!(!d.paired && d.is_clear());
        assert_eq!((d.difference.value, d.ratio.unwrap().value), (4.5, 3.25));
        assert_eq!(paired(&[(&a, &[]), (&[], &b)], Statistic::Mean, 1.0, 1), None);
    }

    #[test]
    fn a_ratio_needs_a_positive_denominator() {
        let zero = [0.0, 0.0];
        let d = paired(&[(&[1.0, 1.0], &zero), (&[1.0, 1.0], &zero)], Statistic::Mean, 1.0, 1).unwrap();
        assert_eq!((d.difference.value, d.ratio), (1.0, None));
    }

    #[test]
    fn a_clearer_effect_needs_fewer_blocks() {
        let needed = |value: f64| blocks_needed(Estimate::new(value, value - 2.0, value + 2.0, 50), 0.0, 10);
        assert!(needed(2.0).unwrap() < needed(1.0).unwrap());
        assert_eq!(needed(0.0), None);
        // An effect of one standard deviation of the blocks: (1.96 + 0.84)² is 7.85.
        let deviation_1 = Estimate::new(1.0, 1.0 - widening(10) / 10_f64.sqrt(), 1.0 + widening(10) / 10_f64.sqrt(), 1);
        assert_eq!(blocks_needed(deviation_1, 0.0, 10), Some(10));
    }

    fn lanes() -> impl Strategy<Value = Vec<(Vec<f64>, Vec<f64>)>> {
        let samples = || proptest::collection::vec(0.1..1e3_f64, 1..6);
        proptest::collection::vec((samples(), samples()), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn swapping_the_lanes_changes_the_sign(trial in lanes()) {
            let swapped: Vec<_> = trial.iter().cloned().map(|(a, b)| (b, a)).collect();
            for statistic in [Statistic::Mean, Statistic::Median, Statistic::P95] {
                let (d, s) = (difference(&trial, statistic).difference, difference(&swapped, statistic).difference);
                prop_assert!((d.value + s.value).abs() < 1e-9);
                if trial.len() > 1 {
                    prop_assert!((d.low + s.high).abs() < 1e-6 && (d.high + s.low).abs() < 1e-6);
                }
            }
        }

        #[test]
        fn a_drift_of_both_lanes_cancels_out(trial in lanes(), drifts in proptest::collection::vec(0.0..1e3_f64, 6)) {
            let drifted: Vec<_> = trial.iter().zip(&drifts)
                .map(|((a, b), drift)| {
                    let add = |lane: &Vec<f64>| lane.iter().map(|x| x + drift).collect::<Vec<_>>();
                    (add(a), add(b))
                })
                .collect();
            for statistic in [Statistic::Mean, Statistic::Median].into_iter().filter(|_| trial.len() > 1) {
                let (d, e) = (difference(&trial, statistic), difference(&drifted, statistic));
                prop_assert!((d.difference.value - e.difference.value).abs() < 1e-6);
                prop_assert!((d.difference.low - e.difference.low).abs() < 1e-6);
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_interval(trial in lanes()) {
            prop_assert_eq!(difference(&trial, Statistic::Median), difference(&trial, Statistic::Median));
        }
    }
}
