//! Calculates differences of two lanes with intervals that hold at every block at once, so that a run may end as soon as
//! they decide. Pure functions.
//!
//! The estimates are those of [`crate::analysis::pairing`]; the intervals are confidence sequences over blocks
//! ([`crate::analysis::sequence`]).

use crate::{
    analysis::{
        pairing::{Differences, Pair},
        sequence::{deviation, half_interval, interval},
        stats::{mean, quantile},
    },
    model::{
        difference::Difference,
        estimate::{Estimate, Statistic},
    },
};

/// The difference `statistic(a) - factor × statistic(b)` and the ratio `statistic(a) / statistic(b)` over blocks in the
/// order in which they ran. `None` while an interval is unbounded: for the first three blocks, and for a tail as long as its
/// interval ends beyond the largest sample.
pub fn paired(blocks: &[Pair<'_>], statistic: Statistic, factor: f64) -> Option<Difference> {
    let blocks: Vec<Pair<'_>> = blocks.iter().copied().filter(|(a, b)| !a.is_empty() && !b.is_empty()).collect();
    let n = blocks.iter().map(|(a, b)| a.len().min(b.len())).sum();
    let by_difference = |x: f64, y: f64| Some(x - factor * y);
    let by_log_ratio = |x: f64, y: f64| (x > 0.0 && y > 0.0).then(|| (x / y).ln());
    let (difference, log_ratio) = match statistic {
        Statistic::Mean => (of_means(&blocks, by_difference)?, of_means(&blocks, by_log_ratio)),
        Statistic::Median => (shift(&blocks, by_difference)?, shift(&blocks, by_log_ratio)),
        Statistic::P95 => tails(&blocks, 0.95, factor)?,
        Statistic::P99 => tails(&blocks, 0.99, factor)?,
    };
    let with_n = |e: Estimate| Estimate { n, ..e };
    let exp = |e: Estimate| Estimate::new(e.value.exp(), e.low.exp(), e.high.exp(), n);
    let (difference, ratio) = (with_n(difference), log_ratio.map(exp));
    Some(Difference { difference, ratio, blocks: blocks.len(), paired: true })
}

/// The mean of one comparison of means for each block.
fn of_means(blocks: &[Pair<'_>], compare: impl Fn(f64, f64) -> Option<f64>) -> Option<Estimate> {
    let values: Option<Vec<f64>> = blocks.iter().map(|(a, b)| compare(mean(a)?, mean(b)?)).collect();
    interval(&values?)
}

/// Hodges and Lehmann's estimate. Its interval holds the values that have about as many differences below as above, by the
/// sequence of the blocks' shares below the estimate (as Woodruff 1952 does for quantiles).
fn shift(blocks: &[Pair<'_>], compare: impl Fn(f64, f64) -> Option<f64>) -> Option<Estimate> {
    let all = Differences::of_pairs(blocks, compare)?;
    let median = all.median(&(0..blocks.len()).collect::<Vec<_>>())?;
    let (mut pairs, mut below) = (vec![0.0; blocks.len()], vec![0.0; blocks.len()]);
    for &(difference, block) in &all.0 {
        pairs[block] += 1.0;
        below[block] += if difference == median { 0.5 } else { f64::from(difference < median) };
    }
    let per_block = all.0.len() as f64 / blocks.len() as f64;
    let shares: Vec<f64> = below.iter().zip(&pairs).map(|(below, pairs)| (below - pairs / 2.0) / per_block).collect();
    // A few blocks may agree by chance; independent samples of two equal lanes have this variance (Mann and Whitney 1947).
    let independent = |((a, b), pairs): (&Pair<'_>, &f64)| {
        let (a, b) = (a.len() as f64, b.len() as f64);
        (pairs / per_block).powi(2) * (a + b + 1.0) / (12.0 * a * b)
    };
    let independent = blocks.iter().zip(&pairs).map(independent).sum::<f64>() / blocks.len() as f64;
    let half = half_interval(blocks.len(), deviation(&shares)?.max(independent.sqrt()))?;
    let outside = (half < 0.5).then_some(((0.5 - half) * all.0.len() as f64) as usize)?;
    Some(Estimate::new(median, all.0[outside].0, all.0[all.0.len() - 1 - outside].0, blocks.len()))
}

/// The difference and the logarithm of the ratio of two tail percentiles. Each lane's interval is that of the share of its
/// samples up to the percentile (Woodruff 1952), and the two are combined as if the lanes were independent (MOVER, Zou and
/// Donner 2008): what both lanes have in common makes the interval wider than needed.
fn tails(blocks: &[Pair<'_>], p: f64, factor: f64) -> Option<(Estimate, Option<Estimate>)> {
    let a = tail(&blocks.iter().map(|pair| pair.0).collect::<Vec<_>>(), p)?;
    let b = tail(&blocks.iter().map(|pair| pair.1).collect::<Vec<_>>(), p)?;
    let minus = |a: Estimate, b: Estimate| {
        let value = a.value - b.value;
        let low = value - (a.value - a.low).hypot(b.high - b.value);
        let high = value + (a.high - a.value).hypot(b.value - b.low);
        Estimate::new(value, low, high, blocks.len())
    };
    let ln = |e: Estimate| Estimate::new(e.value.ln(), e.low.ln(), e.high.ln(), e.n);
    Some((minus(a, b.scaled(factor)), (a.low > 0.0 && b.low > 0.0).then(|| minus(ln(a), ln(b)))))
}

/// The `p`-quantile of all samples of one lane; `None` if its interval ends beyond the largest.
fn tail(blocks: &[&[f64]], p: f64) -> Option<Estimate> {
    let mut sorted = blocks.concat();
    sorted.sort_unstable_by(f64::total_cmp);
    let value = quantile(&sorted, p)?;
    let (n, count) = (sorted.len() as f64, blocks.len() as f64);
    let below = |block: &&[f64]| block.iter().filter(|sample| **sample <= value).count() as f64;
    let shares: Vec<f64> = blocks.iter().map(|block| (below(block) - p * block.len() as f64) * count / n).collect();
    let independent = (p * (1.0 - p) * count / n).sqrt();
    let half = half_interval(blocks.len(), deviation(&shares)?.max(independent))?;
    if p + half > 1.0 - 1.0 / n {
        return None;
    }
    Some(Estimate::new(value, quantile(&sorted, p - half)?, quantile(&sorted, p + half)?, sorted.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::pairing;
    use proptest::prelude::{Strategy, prop_assert, proptest};
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    /// Two lanes on a machine whose speed changes from block to block; the second is slower by `factor`.
    fn lanes(rng: &mut ChaCha8Rng, blocks: usize, size: usize, factor: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let block = |rng: &mut ChaCha8Rng| {
            let speed = 1.0 + 0.1 * rng.random::<f64>();
            let mut lane = |factor: f64| -> Vec<f64> {
                (0..size).map(|_| (20.0 - (1.0 - rng.random::<f64>()).ln()) * speed * factor).collect()
            };
            (lane(1.0), lane(factor))
        };
        (0..blocks).map(|_| block(rng)).collect()
    }

    fn at(lanes: &[(Vec<f64>, Vec<f64>)], statistic: Statistic, factor: f64) -> Option<Difference> {
        let pairs: Vec<Pair<'_>> = lanes.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        paired(&pairs, statistic, factor)
    }

    const ALL: [Statistic; 4] = [Statistic::Mean, Statistic::Median, Statistic::P95, Statistic::P99];

    /// The number of 400 trials in which the interval excludes the truth, a ratio of 1, at any block.
    fn wrong(statistic: Statistic, blocks: usize, size: usize) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let excludes = |d: Difference| d.is_clear() || d.ratio.is_some_and(|ratio| ratio.low > 1.0 || ratio.high < 1.0);
        let trial = |lanes: Vec<_>| (2..=blocks).any(|n| at(&lanes[..n], statistic, 1.0).is_some_and(excludes));
        (0..400).filter(|_| trial(lanes(&mut rng, blocks, size, 1.0))).count()
    }

    #[test]
    fn identical_lanes_rarely_differ_at_any_block() {
        for (statistic, blocks, size) in [
            (Statistic::Mean, 60, 3),
            (Statistic::Median, 60, 1),
            (Statistic::Median, 60, 2),
            (Statistic::Median, 40, 6),
            (Statistic::P95, 30, 40),
        ] {
            let wrong = wrong(statistic, blocks, size);
            assert!(wrong <= 20, "{statistic:?}, {blocks} blocks of {size}: {wrong} of 400");
        }
    }

    #[test]
    fn estimates_are_those_of_fixed_length() {
        let lanes = lanes(&mut ChaCha8Rng::seed_from_u64(2), 40, 60, 1.1);
        let pairs: Vec<Pair<'_>> = lanes.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        for statistic in ALL {
            let (fixed, anytime) =
                (pairing::paired(&pairs, statistic, 2.0, 1).unwrap(), paired(&pairs, statistic, 2.0).unwrap());
            assert!((fixed.difference.value - anytime.difference.value).abs() < 1e-9, "{statistic:?}");
            assert!((fixed.ratio.unwrap().value - anytime.ratio.unwrap().value).abs() < 1e-9, "{statistic:?}");
            assert_eq!((fixed.blocks, fixed.difference.n), (anytime.blocks, anytime.difference.n));
            let width = |d: Difference| d.difference.high - d.difference.low;
            assert!(width(anytime) > width(fixed), "{statistic:?}: it holds at all blocks");
        }
    }

    #[test]
    fn a_clear_difference_is_found() {
        let lanes = lanes(&mut ChaCha8Rng::seed_from_u64(3), 40, 60, 1.3);
        for (statistic, blocks) in
            [(Statistic::Mean, 6), (Statistic::Median, 6), (Statistic::P95, 30), (Statistic::P99, 40)]
        {
            let found = at(&lanes[..blocks], statistic, 1.0).unwrap();
            assert!(found.difference.high < 0.0 && found.ratio.unwrap().high < 1.0, "{statistic:?} {found:?}");
        }
        assert_eq!(at(&lanes[..3], Statistic::Mean, 1.0), None, "too few blocks");
        assert_eq!(at(&lanes[..12], Statistic::P99, 1.0), None, "720 samples have no such interval of p99");
    }

    fn any_lanes() -> impl Strategy<Value = Vec<(Vec<f64>, Vec<f64>)>> {
        let samples = || proptest::collection::vec(0.1..1e3_f64, 1..6);
        proptest::collection::vec((samples(), samples()), 5..30)
    }

    proptest! {
        #[test]
        fn swapping_the_lanes_changes_the_sign(lanes in any_lanes()) {
            let swapped: Vec<_> = lanes.iter().cloned().map(|(a, b)| (b, a)).collect();
            for statistic in ALL {
                let (d, s) = (at(&lanes, statistic, 1.0), at(&swapped, statistic, 1.0));
                prop_assert!(d.is_some() == s.is_some());
                let (Some(d), Some(s)) = (d, s) else { continue };
                prop_assert!((d.difference.value + s.difference.value).abs() < 1e-9);
                prop_assert!((d.difference.low + s.difference.high).abs() < 1e-6);
                prop_assert!((d.difference.high + s.difference.low).abs() < 1e-6);
            }
        }

        #[test]
        fn a_drift_of_both_lanes_cancels_out(lanes in any_lanes(), drift in 0.0..1e2_f64) {
            let shifted = |(block, (a, b)): (usize, &(Vec<f64>, Vec<f64>))| {
                let add = |lane: &[f64]| lane.iter().map(|x| x + drift * block as f64).collect::<Vec<_>>();
                (add(a), add(b))
            };
            let drifted: Vec<_> = lanes.iter().enumerate().map(shifted).collect();
            for statistic in [Statistic::Mean, Statistic::Median] {
                let (d, e) = (at(&lanes, statistic, 1.0), at(&drifted, statistic, 1.0));
                prop_assert!(d.is_some() == e.is_some());
                let (Some(d), Some(e)) = (d, e) else { continue };
                prop_assert!((d.difference.low - e.difference.low).abs() < 1e-6);
                prop_assert!((d.difference.high - e.difference.high).abs() < 1e-6);
            }
        }
    }
}
