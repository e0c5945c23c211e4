//! Percentiles and bootstrap intervals as pure functions. Differences of lanes are in [`crate::analysis::pairing`].
//!
//! Every result is an [`Estimate`]: a value, a 95 % interval and the number of samples.

use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::model::estimate::{CONFIDENCE, Estimate, Percentile, Statistic};

/// Most draws that one bootstrap makes; many samples get fewer resamples, within [`RESAMPLES`].
const MAX_DRAWS: usize = 4_000_000;
const RESAMPLES: std::ops::RangeInclusive<usize> = 200..=2_000;

/// The `p`-quantile (0 ..= 1) of ascending samples, interpolated linearly between order statistics
/// (Hyndman and Fan's type 7, numpy's default, which the study used). `None` without samples.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let position = p.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

/// Arithmetic mean; `None` without samples.
pub fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// Median of samples in any order, which are reordered; `None` without samples.
pub fn median(samples: &mut [f64]) -> Option<f64> {
    let middle = samples.len() / 2;
    if samples.is_empty() {
        return None;
    }
    let odd = samples.len() % 2 == 1;
    let (left, &mut upper, _) = samples.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return Some(upper);
    }
    let lower = left.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((lower + upper) / 2.0)
}

/// Fewest samples for which the `p`-quantile's interval ends within the samples:
/// the smallest n with `p^n` ≤ 2.5 % (72 for p95, 368 for p99).
pub fn samples_needed(p: f64) -> usize {
    (((1.0 - CONFIDENCE) / 2.0).ln() / p.ln()).ceil() as usize
}

/// The `p`-quantile of ascending samples with its distribution-free interval: the pair of order
/// statistics that holds the quantile with 95 % (binomial) probability.
pub fn tail_percentile(sorted: &[f64], p: f64) -> Percentile {
    let n = sorted.len();
    let needed = samples_needed(p);
    match quantile(sorted, p) {
        Some(value) if n >= needed => {
            let (low, high) = quantile_ranks(n, p);
            Percentile::Known(Estimate::new(value, sorted[low], sorted[high], n))
        }
        _ => Percentile::Unknown {
            value: None,
            reason: format!("p{:.0} with an interval needs {needed} samples, there are {n}", p * 100.0),
        },
    }
}

/// Zero-based ranks of the order statistics around the `p`-quantile of `n` samples.
fn quantile_ranks(n: usize, p: f64) -> (usize, usize) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // Walk the binomial distribution (n, p) in logarithms: (1 - p)^n underflows early.
    let odds = (p / (1.0 - p)).ln();
    let mut log_mass = n as f64 * (1.0 - p).ln();
    let mut cumulative = 0.0;
    let (mut low, mut high) = (0, n - 1);
    for k in 0..n {
        cumulative += log_mass.exp();
        // P(at most k samples lie below the quantile) is `cumulative`.
        if cumulative <= tail {
            low = k;
        }
        if cumulative >= 1.0 - tail {
            high = k;
            break;
        }
        log_mass += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
    }
    (low, high)
}

impl Statistic {
    /// The statistic of samples in any order, which are reordered; `None` without samples.
    pub fn of(self, samples: &mut [f64]) -> Option<f64> {
        let mut tail = |p| {
            samples.sort_unstable_by(f64::total_cmp);
            quantile(samples, p)
        };
        match self {
            Self::P95 => tail(0.95),
            Self::P99 => tail(0.99),
            Self::Mean => mean(samples),
            Self::Median => median(samples),
        }
    }
}

/// A statistic with its percentile-bootstrap interval (Efron 1979): the middle 95 % of the statistic
/// over resamples drawn with replacement, by a generator seeded with `seed`. `None` without samples.
pub fn bootstrap(samples: &[f64], statistic: Statistic, seed: u64) -> Option<Estimate> {
    let value = statistic.of(&mut samples.to_vec())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut scratch = vec![0.0; samples.len()];
    let replicates = (0..resamples(samples.len()))
        .filter_map(|_| {
            resample(samples, &mut scratch, &mut rng);
            statistic.of(&mut scratch)
        })
        .collect();
    Some(from_replicates(value, replicates, samples.len()))
}

/// A statistic of two independent samples with its percentile-bootstrap interval: each is resampled separately. `None`
/// if `statistic` is `None` for the samples themselves.
pub fn bootstrap_with(
    a: &[f64],
    b: &[f64],
    statistic: impl Fn(&mut [f64], &mut [f64]) -> Option<f64>,
    seed: u64,
) -> Option<Estimate> {
    let value = statistic(&mut a.to_vec(), &mut b.to_vec())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut x, mut y) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    let replicates = (0..resamples(a.len() + b.len()))
        .filter_map(|_| {
            resample(a, &mut x, &mut rng);
            resample(b, &mut y, &mut rng);
            statistic(&mut x, &mut y)
        })
        .collect();
    Some(from_replicates(value, replicates, a.len().min(b.len())))
}

fn resamples(n: usize) -> usize {
    (MAX_DRAWS / n.max(1)).clamp(*RESAMPLES.start(), *RESAMPLES.end())
}

fn resample(samples: &[f64], into: &mut [f64], rng: &mut impl Rng) {
    for slot in into {
        *slot = samples[rng.random_range(0..samples.len())];
    }
}

/// An estimate from a statistic and its replicates: the middle 95 % of them.
pub fn from_replicates(value: f64, mut replicates: Vec<f64>, n: usize) -> Estimate {
    replicates.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let end = |p| quantile(&replicates, p).unwrap_or(value);
    Estimate::new(value, end(tail), end(1.0 - tail), n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
        samples.sort_unstable_by(f64::total_cmp);
        samples
    }

    fn samples() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.001..1e6_f64, 1..60)
    }

    #[test]
    fn quantiles_match_numpy() {
        // numpy.percentile([1, 2, 3, 4], [0, 25, 50, 95, 100])
        let s = [1.0, 2.0, 3.0, 4.0];
        let got: Vec<_> = [0.0, 0.25, 0.5, 0.95, 1.0].map(|p| quantile(&s, p).unwrap()).to_vec();
        assert_eq!(got, [1.0, 1.75, 2.5, 3.8499999999999996, 4.0]);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn tails_need_enough_samples() {
        assert_eq!((samples_needed(0.95), samples_needed(0.99)), (72, 368));
        let thirty: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(
            tail_percentile(&thirty, 0.99),
            Percentile::Unknown { value: None, reason: "p99 with an interval needs 368 samples, there are 30".into() }
        );
        let many: Vec<f64> = (0..368).map(f64::from).collect();
        let known = tail_percentile(&many, 0.99).known().unwrap();
        assert_eq!(known.high, 367.0, "368 samples are just enough: the interval ends at the largest");
    }

    /// Tables of the binomial confidence interval for the median give ranks 40 and 61 of 100 (1-based).
    #[test]
    fn ranks_match_published_tables() {
        assert_eq!(quantile_ranks(100, 0.5), (39, 60));
        assert_eq!(quantile_ranks(10, 0.5), (1, 8));
    }

    #[test]
    fn intervals_shrink_with_samples() {
        let spread = |n: usize| {
            let samples: Vec<f64> = (0..n).map(|i| (i * 7919 % 101) as f64).collect();
            let e = bootstrap(&samples, Statistic::Mean, 1).unwrap();
            e.high - e.low
        };
        assert!(spread(2000) < spread(200) && spread(200) < spread(20));
    }

    /// The mean of 0..100 has a standard error of 2.887: the interval is about ±1.96 of that.
    #[test]
    fn bootstrap_of_the_mean_has_the_textbook_width() {
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        let e = bootstrap(&samples, Statistic::Mean, 3).unwrap();
        assert_eq!((e.value, e.n), (49.5, 100));
        assert!(((e.high - e.low) / 2.0 - 1.96 * 2.887).abs() < 0.6, "{e:?}");
    }

    proptest! {
        #[test]
        fn intervals_contain_the_estimate(s in samples(), seed: u64) {
            for statistic in [Statistic::Mean, Statistic::Median] {
                let e = bootstrap(&s, statistic, seed).unwrap();
                prop_assert!(e.low <= e.value && e.value <= e.high);
                let s = sorted(s.clone());
                prop_assert!(s[0] <= e.low * (1.0 + 1e-9) && e.high <= s[s.len() - 1] * (1.0 + 1e-9));
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_interval(s in samples(), seed: u64) {
            prop_assert_eq!(bootstrap(&s, Statistic::Median, seed), bootstrap(&s, Statistic::Median, seed));
        }

        #[test]
        fn quantiles_rise_and_stay_within(s in samples(), p in 0.0..1.0_f64, q in 0.0..1.0_f64) {
            let s = sorted(s);
            let (low, high) = (quantile(&s, p.min(q)).unwrap(), quantile(&s, p.max(q)).unwrap());
            prop_assert!(low <= high && s[0] <= low && high <= s[s.len() - 1]);
        }

        #[test]
        fn the_median_is_the_half_quantile(s in samples()) {
            let expected = quantile(&sorted(s.clone()), 0.5).unwrap();
            prop_assert!((median(&mut s.clone()).unwrap() - expected).abs() <= expected * 1e-12);
        }

        #[test]
        fn ranks_are_ordered(n in 72_usize..5000) {
            let (low, high) = quantile_ranks(n, 0.95);
            prop_assert!(low <= high && high < n);
        }
    }
}
