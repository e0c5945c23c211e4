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

/// The normal distribution's quantile for 95 % confidence.
pub(crate) const Z_CONFIDENCE: f64 = 1.959_964;

/// Probability that a true quantile is at most its conservative estimate, as in MLPerf's early stopping.
const CONSERVATIVE: f64 = 0.99;

/// Fewest samples for a verdict on the `p`-quantile: 11 for the median, 64 for p90, 130 for p95, 662 for p99 (MLPerf
/// inference rules, early stopping). From that number on, at least two samples exceed the true quantile with 99 %
/// probability.
pub fn fewest_for_verdict(p: f64) -> usize {
    (1..).find(|&n| most_below(n, p).is_some()).unwrap_or(usize::MAX)
}

/// A value that the true `p`-quantile does not exceed with 99 % probability: an order statistic of ascending samples
/// (MLPerf inference rules, early stopping). `None` below [`fewest_for_verdict`].
pub fn conservative_quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let above = most_below(sorted.len(), p)?;
    sorted.get(sorted.len().checked_sub(1 + above)?).copied()
}

/// Whether the true `p`-quantile exceeds a bound with 99 % probability, given that `above` of `n` samples exceed it.
pub fn quantile_exceeds(n: usize, above: usize, p: f64) -> bool {
    // Otherwise each sample would exceed it with at most 1 - p.
    let fewer: f64 = binomial(n, 1.0 - p).take(above).sum();
    above > 0 && 1.0 - fewer <= 1.0 - CONSERVATIVE
}

/// The largest t of at least 1 such that at most t of `n` samples exceed the `p`-quantile with 1 % probability.
fn most_below(n: usize, p: f64) -> Option<usize> {
    let mut cumulative = 0.0;
    let unlikely = binomial(n, 1.0 - p).take_while(|mass| {
        cumulative += mass;
        cumulative <= 1.0 - CONSERVATIVE
    });
    unlikely.count().checked_sub(1).filter(|&t| t >= 1)
}

/// The probabilities of 0, 1, ... successes in `n` trials.
fn binomial(n: usize, p: f64) -> impl Iterator<Item = f64> {
    // In logarithms, because (1 - p)^n underflows early.
    let odds = (p / (1.0 - p)).ln();
    let first = n as f64 * (1.0 - p).ln();
    (0..n).scan(first, move |log_mass, k| {
        let mass = log_mass.exp();
        *log_mass += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
        Some(mass)
    })
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
    let mut cumulative = 0.0;
    let (mut low, mut high) = (0, n - 1);
    for (k, mass) in binomial(n, p).enumerate() {
        cumulative += mass;
        // P(at most k samples lie below the quantile) is `cumulative`.
        if cumulative <= tail {
            low = k;
        }
        if cumulative >= 1.0 - tail {
            high = k;
            break;
        }
    }
    (low, high)
}

impl Statistic {
    /// Fewest samples for a verdict on it.
    pub fn fewest_for_verdict(self) -> usize {
        self.quantile().map_or(1, fewest_for_verdict)
    }

    /// The quantile that it is; `None` for the mean.
    fn quantile(self) -> Option<f64> {
        match self {
            Self::Mean => None,
            Self::Median => Some(0.5),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
        }
    }

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

/// The two-sided 95 % quantile of Student's distribution, for at least one degree of freedom.
pub fn students_t(degrees_of_freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    debug_assert!((CONFIDENCE - 0.95).abs() < 1e-12);
    let df = degrees_of_freedom.max(1);
    TABLE.get(df - 1).copied().unwrap_or_else(|| {
        // Cornish and Fisher's expansion, accurate to 0.003 from here on.
        let (z, n) = (Z_CONFIDENCE, df as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

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
    fn students_quantiles_match_the_tables() {
        // From the tables.
        for (df, t) in [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (60, 2.000), (1_000_000, 1.960)] {
            assert!((students_t(df) - t).abs() < 3e-3, "{df}: {}", students_t(df));
        }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    /// The numbers of MLPerf's inference rules.
    #[test]
    fn verdicts_need_the_samples_of_early_stopping() {
        let fewest = [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6_636)];
        for (p, n) in fewest {
            assert_eq!(fewest_for_verdict(p), n, "p{p}");
        }
        let samples = |n: u32| (0..n).map(f64::from).collect::<Vec<_>>();
        assert_eq!(conservative_quantile(&samples(661), 0.99), None);
        assert_eq!(conservative_quantile(&samples(662), 0.99), Some(660.0), "the second largest");
        let many = samples(10_000);
        let (empirical, conservative) = (quantile(&many, 0.99).unwrap(), conservative_quantile(&many, 0.99).unwrap());
        assert!(empirical < conservative && conservative < 9_930.0, "{empirical} {conservative}");
    }

    /// With known truth: the conservative p99 is below the true one in at most 1 % of trials, within sampling error.
    #[test]
    fn the_conservative_quantile_is_rarely_too_low() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let truth = -(0.01_f64).ln();
        let too_low = (0..2_000).filter(|_| {
            let exponential: Vec<f64> = (0..800).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
            conservative_quantile(&sorted(exponential), 0.99).unwrap() < truth
        });
        let count = too_low.count();
        assert!(count <= 29, "{count} of 2,000");
    }

    #[test]
    fn a_few_slow_requests_do_not_exceed_a_bound() {
        assert!(!quantile_exceeds(40, 1, 0.99), "1 of 40 is 2.5 %, but may be chance");
        assert!(quantile_exceeds(40, 5, 0.99));
        assert!(!quantile_exceeds(1_000, 10, 0.99) && quantile_exceeds(1_000, 20, 0.99));
        assert!(!quantile_exceeds(0, 0, 0.99));
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
