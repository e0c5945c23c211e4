//! Differences between two saved runs, which were not interleaved. Pure functions.
//!
//! Nothing is paired: each run has its own blocks, and its blocks are its observations, because requests of one block
//! resemble each other. The estimate is the difference of the two figures that the reports show. Its interval is
//! Welch's (1947): the standard error of each run's figure, by a bootstrap over its blocks, and Student's t with Welch's
//! degrees of freedom. It contains what varies within a run, but not what differs between two: machines, their load,
//! the link.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::stats::students_t,
    model::{
        cell::Cell,
        difference::Difference,
        estimate::{Estimate, Statistic},
        load::Load,
        metric::Metric,
        report::Report,
    },
};

/// Most samples that one bootstrap draws; many samples get fewer resamples, within [`RESAMPLES`].
const MAX_DRAWS: usize = 2_000_000;
const RESAMPLES: std::ops::RangeInclusive<usize> = 200..=1_000;

/// How a figure of a later run differs from that of the first.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The cell of the first run.
    pub first: &'a Cell,
    /// What is compared.
    pub metric: Metric,
    /// Later minus first; `None` if a run has only one block, or no samples.
    pub difference: Option<Difference>,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The later run is better.
    Better,
    /// The later run is worse.
    Worse,
    /// The interval contains 0, or there are too few requests.
    Undecided,
}

impl Change<'_> {
    /// Which run is better, if that is decided.
    pub fn direction(&self) -> Direction {
        let fewest = self.metric.statistic().fewest_for_verdict();
        match self.difference.filter(|found| found.is_clear() && found.difference.n >= fewest) {
            None => Direction::Undecided,
            // Throughput is better if it is higher, all else if it is lower.
            Some(found) if (found.difference.value > 0.0) == (self.metric == Metric::Throughput) => Direction::Better,
            Some(_) => Direction::Worse,
        }
    }
}

/// The changes of every cell that both runs have: p50 and p99, and for concurrent loads throughput.
pub fn changes<'a>(first: &'a Report, later: &Report) -> Vec<Change<'a>> {
    let (mut found, seed) = (Vec::new(), first.settings.seed);
    for cell in &first.cells {
        let same = |other: &&Cell| {
            (other.lane, other.load, other.connection, other.payload, other.transport)
                == (cell.lane, cell.load, cell.connection, cell.payload, cell.transport)
        };
        let Some(other) = later.cells.iter().find(same) else { continue };
        let throughput = matches!(cell.load, Load::Concurrent { .. }).then_some(Metric::Throughput);
        let latency = [Statistic::Median, Statistic::P99].map(Metric::Latency);
        found.extend(throughput.into_iter().chain(latency).map(|metric| {
            Change {
                first: cell,
                metric,
                difference: metric
                    .values(other)
                    .zip(metric.values(cell))
                    .and_then(|(later, first)| independent(&later, &first, metric.statistic(), seed)),
            }
        }));
    }
    found
}

/// The difference `statistic(a) - statistic(b)` of the blocks of two runs. `None` with fewer than two blocks in a run.
pub fn independent(a: &[Vec<f64>], b: &[Vec<f64>], statistic: Statistic, seed: u64) -> Option<Difference> {
    let [a, b] = [a, b].map(|blocks| blocks.iter().filter(|block| !block.is_empty()).collect::<Vec<_>>());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [(a, a_log), (b, b_log)] = [Figure::pair(&a, statistic, &mut rng)?, Figure::pair(&b, statistic, &mut rng)?];
    let log_ratio = a_log.zip(b_log).map(|(a, b)| a.minus(&b));
    let exp = |e: Estimate| Estimate::new(e.value.exp(), e.low.exp(), e.high.exp(), e.n);
    Some(Difference {
        difference: a.minus(&b),
        ratio: log_ratio.map(exp),
        blocks: a.blocks.min(b.blocks),
        paired: false,
    })
}

/// A statistic of one run.
struct Figure {
    value: f64,
    /// Square of its standard error.
    variance: f64,
    blocks: usize,
    samples: usize,
}

impl Figure {
    /// The statistic and its logarithm, if it is positive, with their standard errors over resampled blocks.
    fn pair(blocks: &[&Vec<f64>], statistic: Statistic, rng: &mut ChaCha8Rng) -> Option<(Self, Option<Self>)> {
        let (k, samples) = (blocks.len(), blocks.iter().map(|block| block.len()).sum::<usize>());
        if k < 2 {
            return None;
        }
        let mut pool: Vec<f64> = blocks.iter().flat_map(|block| block.iter().copied()).collect();
        let value = statistic.of(&mut pool)?;
        let mut replicates = Vec::new();
        for _ in 0..(MAX_DRAWS / samples).clamp(*RESAMPLES.start(), *RESAMPLES.end()) {
            pool.clear();
            (0..k).for_each(|_| pool.extend_from_slice(blocks[rng.random_range(0..k)]));
            replicates.extend(statistic.of(&mut pool));
        }
        let of = |value: f64, replicates: Vec<f64>| {
            let squares = replicates.iter().map(|replicate| (replicate - value).powi(2)).sum::<f64>();
            // The bootstrap divides by k where the sample variance divides by k - 1.
            let variance = squares / replicates.len().max(1) as f64 * k as f64 / (k - 1) as f64;
            Self { value, variance, blocks: k, samples }
        };
        let positive = value > 0.0 && replicates.iter().all(|replicate| *replicate > 0.0);
        let log = positive.then(|| of(value.ln(), replicates.iter().map(|replicate| replicate.ln()).collect()));
        Some((of(value, replicates), log))
    }

    fn minus(&self, other: &Self) -> Estimate {
        let sum = self.variance + other.variance;
        let share = |figure: &Self| figure.variance.powi(2) / (figure.blocks - 1) as f64;
        let freedom = sum.powi(2) / (share(self) + share(other));
        let freedom = if freedom.is_finite() { freedom as usize } else { self.blocks.min(other.blocks) - 1 };
        let half = students_t(freedom) * sum.sqrt();
        let value = self.value - other.value;
        Estimate::new(value, value - half, value + half, self.samples.min(other.samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::lane::Lane};

    /// A run: blocks that differ, with requests that differ less.
    fn run(rng: &mut ChaCha8Rng, blocks: usize, size: usize, level: f64) -> Vec<Vec<f64>> {
        let exponential = |rng: &mut ChaCha8Rng| -(1.0 - rng.random::<f64>()).ln();
        (0..blocks)
            .map(|_| {
                let block = level + 0.5 * (exponential(rng) - 1.0);
                (0..size).map(|_| block + exponential(rng)).collect()
            })
            .collect()
    }

    /// Differences that are reported of runs that do not differ, and intervals that contain a difference that is there:
    /// 5 % and 95 % within the sampling error of 400 trials.
    #[test]
    fn the_interval_holds_its_level_with_blocks_that_differ() {
        for (blocks, size, statistic) in
            [(8, 2, Statistic::Median), (8, 40, Statistic::Median), (10, 3, Statistic::Mean)]
        {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let trials = (0..400).map(|i| {
                let (a, b) = (run(&mut rng, blocks, size, 12.0), run(&mut rng, blocks + 4, size, 10.0));
                independent(&a, &b, statistic, i).unwrap().difference
            });
            let missed = trials.filter(|d| d.low > 2.0 || d.high < 2.0).count();
            assert!(missed <= 33, "{blocks} blocks of {size}, {statistic:?}: {missed} of 400");
        }
    }

    #[test]
    fn the_estimate_is_the_difference_of_the_figures() {
        let (a, b) = (vec![vec![1.0, 3.0], vec![8.0]], vec![vec![2.0], vec![2.5, 4.0], vec![3.0]]);
        let d = independent(&a, &b, Statistic::Median, 1).unwrap();
        assert_eq!((d.difference.value, d.difference.n, d.blocks, d.paired), (3.0 - 2.75, 3, 2, false));
        assert!((d.ratio.unwrap().value - 3.0 / 2.75).abs() < 1e-12);
        assert_eq!(independent(&a[..1], &b, Statistic::Median, 1), None, "one block has no spread");
    }

    #[test]
    fn a_slower_run_is_worse_and_the_same_run_is_undecided() {
        let first = fixture::report();
        let mut slow = first.clone();
        for cell in &mut slow.cells {
            cell.samples.latency_us.iter_mut().for_each(|us| *us *= 1.5);
        }
        let directions = |later: &Report, metric| -> Vec<Direction> {
            changes(&first, later).iter().filter(|c| c.metric == metric).map(Change::direction).collect()
        };
        let p50 = Metric::Latency(Statistic::Median);
        assert!(directions(&slow, p50).iter().all(|direction| *direction == Direction::Worse));
        assert!(directions(&first, p50).iter().all(|direction| *direction == Direction::Undecided));
        // 30 requests say nothing about the slowest 1 % of all.
        let p99 = Metric::Latency(Statistic::P99);
        assert!(directions(&slow, p99).iter().all(|direction| *direction == Direction::Undecided));
        let back: Vec<_> = changes(&slow, &first).iter().filter(|c| c.metric == p50).map(Change::direction).collect();
        assert!(back.iter().all(|direction| *direction == Direction::Better));
    }

    #[test]
    fn only_equal_variants_are_compared() {
        let first = fixture::report();
        let mut later = first.clone();
        later.cells.retain(|cell| cell.lane == Lane::JPEG);
        later.cells[0].payload = None;
        let lanes: Vec<Lane> = changes(&first, &later).iter().map(|change| change.first.lane).collect();
        assert!(lanes.iter().all(|lane| *lane == Lane::JPEG));
        // Three serial cells of which one differs, and a concurrent one.
        assert_eq!(lanes.len(), 2 * 2 + 3);
    }
}
