//! Judges a claim after each block until it is decided: supported, refuted, or equivalent within a margin. Pure functions.
//!
//! The intervals hold at every block at once, so the first verdict counts.

use std::time::Duration;

use crate::{
    analysis::{
        anytime,
        pairing::Pair,
        sequence::{first_decision, half_interval, is_due},
        stats::median,
    },
    model::{
        cell::Cell,
        difference::Difference,
        duration::duration_text,
        estimate::Estimate,
        hypothesis::{Hypothesis, Judged, Relation, SampleSize, Verdict},
        until_decided::UntilDecided,
    },
};

/// How a claim stands after some blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The verdict.
    pub verdict: Verdict,
    /// Left minus right; `None` while its interval is unbounded.
    pub effect: Option<Difference>,
    /// Blocks of both lanes.
    pub blocks: usize,
    /// For open claims: the blocks after which a verdict is expected if effect and spread stay as they are; `None` if that is
    /// not known yet, or beyond any practical number.
    pub expected: Option<usize>,
}

impl Standing {
    /// How the claim stands after these blocks, all of which have samples of both lanes.
    pub fn at(claim: &Hypothesis, margin: f64, blocks: &[Pair<'_>]) -> Self {
        let statistic = claim.metric.statistic();
        let effect = anytime::paired(blocks, statistic, claim.factor);
        let open = |expected| Self { verdict: Verdict::Inconclusive, effect, blocks: blocks.len(), expected };
        let Some(found) = effect else { return open(None) };
        let forecast = || first_decision(blocks.len() + 1, |n| verdict_after(claim, margin, &found, n).is_some());
        let (fewest, there) = (statistic.fewest_for_verdict(), found.difference.n);
        if there < fewest {
            let enough = (blocks.len() * fewest).div_ceil(there.max(1));
            return open(forecast().map(|expected| expected.max(enough)));
        }
        match verdict(claim, margin, &found) {
            Some(verdict) => Self { verdict, effect, blocks: blocks.len(), expected: None },
            None => open(forecast()),
        }
    }

    /// How the claim stood when it was decided, or else after all blocks.
    pub fn first_decided(claim: &Hypothesis, margin: f64, blocks: &[Pair<'_>]) -> Self {
        let looks = (1..blocks.len()).filter(|&n| is_due(n)).map(|n| Self::at(claim, margin, &blocks[..n]));
        looks.into_iter().find(Self::is_decided).unwrap_or_else(|| Self::at(claim, margin, blocks))
    }

    /// Whether there is a verdict.
    pub fn is_decided(&self) -> bool {
        self.verdict != Verdict::Inconclusive
    }

    /// How much longer a verdict would take, if a block takes this time.
    pub fn remaining(&self, of_block: Option<Duration>) -> String {
        let Some(expected) = self.expected else {
            return match self.effect {
                None => "too few blocks to say how many more a verdict takes".into(),
                Some(_) => "the effect is too close to a bound for a verdict".into(),
            };
        };
        let more = expected.saturating_sub(self.blocks).max(1);
        let time = of_block.map_or(String::new(), |time| format!(" ({})", duration_text(time * more as u32)));
        format!("about {more} more{time} would decide")
    }
}

/// The verdict for an effect; `None` while it is open. A clear difference within the margin is equivalent.
fn verdict(claim: &Hypothesis, margin: f64, effect: &Difference) -> Option<Verdict> {
    let within =
        |ratio: Estimate| claim.factor / (1.0 + margin) <= ratio.low && ratio.high <= claim.factor * (1.0 + margin);
    if !matches!(claim.relation, Relation::Within(_)) && effect.ratio.is_some_and(within) {
        return Some(Verdict::Equivalent);
    }
    Some(claim.relation.decide(effect, claim.factor).0).filter(|verdict| *verdict != Verdict::Inconclusive)
}

/// The verdict after `n` blocks if effect and spread stay as they are.
fn verdict_after(claim: &Hypothesis, margin: f64, effect: &Difference, n: usize) -> Option<Verdict> {
    let narrower = half_interval(n, 1.0)? / half_interval(effect.blocks, 1.0)?;
    let then = |e: Estimate| {
        Estimate::new(e.value, e.value - (e.value - e.low) * narrower, e.value + (e.high - e.value) * narrower, e.n)
    };
    let effect = Difference { difference: then(effect.difference), ratio: effect.ratio.map(then), ..*effect };
    verdict(claim, margin, &effect)
}

/// Judges a claim by two cells of a run until decided.
pub(super) fn judge(claim: &Hypothesis, left: &Cell, right: &Cell, until: UntilDecided) -> Judged {
    let judged = |verdict, effect, needs, reason, decided_after| Judged {
        claim: claim.clone(),
        verdict,
        effect,
        needs,
        reason,
        decided_after,
    };
    let (Some(a), Some(b)) = (claim.metric.values(left), claim.metric.values(right)) else {
        let reason = format!("{} is not known on both lanes", claim.metric);
        return judged(Verdict::Inconclusive, None, None, Some(reason), None);
    };
    let pairs = pairs(&a, &b);
    let standing = Standing::first_decided(claim, until.margin, &pairs);
    let requests = |cell: &Cell, blocks: usize| {
        let measured: usize = cell.blocks.iter().take(blocks).map(|block| block.samples).sum();
        if blocks <= cell.blocks.len() { measured } else { measured * blocks / cell.blocks.len().max(1) }
    };
    let size = |blocks| SampleSize { blocks, requests: requests(left, blocks).max(requests(right, blocks)) };
    if standing.is_decided() {
        return judged(standing.verdict, standing.effect, None, None, Some(size(standing.blocks)));
    }
    let starts: Vec<f64> = left.blocks.iter().map(|block| block.start_s).collect();
    let reason = format!("open after {} blocks; {}", standing.blocks, standing.remaining(time_of_block(&starts)));
    judged(Verdict::Inconclusive, standing.effect, standing.expected.map(size), Some(reason), None)
}

/// The blocks in which both lanes have samples.
pub fn pairs<'a>(left: &'a [Vec<f64>], right: &'a [Vec<f64>]) -> Vec<Pair<'a>> {
    let both = left.iter().zip(right).map(|(a, b)| (&a[..], &b[..]));
    both.filter(|(a, b)| !a.is_empty() && !b.is_empty()).collect()
}

/// Typical time from the start of a lane's block to that of its next, given the starts in seconds.
pub fn time_of_block(starts_s: &[f64]) -> Option<Duration> {
    let mut times: Vec<f64> = starts_s.windows(2).map(|pair| pair[1] - pair[0]).collect();
    Duration::try_from_secs_f64(median(&mut times)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    /// Blocks of two lanes; the left takes `factor` times as long as the right.
    fn blocks(seed: u64, count: usize, size: usize, factor: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut lane =
            |factor: f64| (0..size).map(|_| (20.0 - (1.0 - rng.random::<f64>()).ln()) * factor).collect::<Vec<_>>();
        (0..count).map(|_| (lane(factor), lane(1.0))).collect()
    }

    fn followed(claim: &str, blocks: &[(Vec<f64>, Vec<f64>)]) -> Standing {
        let pairs: Vec<Pair<'_>> = blocks.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        Standing::first_decided(&claim.parse().unwrap(), 0.02, &pairs)
    }

    #[test]
    fn each_verdict_is_found() {
        let verdict = |claim: &str, factor| followed(claim, &blocks(1, 300, 4, factor)).verdict;
        assert_eq!(verdict("p50(onnx-http) < p50(trt-http)", 0.9), Verdict::Supported);
        assert_eq!(verdict("p50(onnx-http) < p50(trt-http)", 1.1), Verdict::Refuted);
        assert_eq!(verdict("p50(onnx-http) < p50(trt-http)", 1.0), Verdict::Equivalent);
        assert_eq!(verdict("mean(onnx-http) > 2 * mean(trt-http)", 2.0), Verdict::Equivalent);
        assert_eq!(verdict("p50(onnx-http) ~ 5% p50(trt-http)", 1.0), Verdict::Supported);
        assert_eq!(verdict("p50(onnx-http) ~ 5% p50(trt-http)", 1.2), Verdict::Refuted);
    }

    #[test]
    fn a_tail_gets_no_verdict_below_its_least_number_of_samples() {
        let clear = blocks(2, 40, 40, 3.0);
        let claim = "p99(onnx-http) > p99(trt-http)";
        let decided = followed(claim, &clear);
        assert_eq!(decided.verdict, Verdict::Supported);
        assert!(decided.effect.unwrap().difference.n >= 662, "{decided:?}");
        assert_eq!(followed(claim, &clear[..16]).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn the_forecast_is_about_right() {
        let claim = "p50(onnx-http) > p50(trt-http)";
        let ratio = |seed| {
            let all = blocks(seed, 300, 4, 1.015);
            let decided = followed(claim, &all).blocks;
            let expected = followed(claim, &all[..decided / 2]).expected.map_or(f64::MAX, |n| n as f64);
            expected / decided as f64
        };
        let typical = median(&mut (0..20).map(ratio).collect::<Vec<_>>()).unwrap();
        assert!((0.5..2.0).contains(&typical), "{typical} at half of the way");
        let all = blocks(3, 20, 4, 1.015);
        let text = followed(claim, &all[..10]).remaining(Some(Duration::from_secs(2)));
        assert!(text.starts_with("about ") && text.ends_with(") would decide"), "{text}");
        assert_eq!(followed(claim, &all[..3]).remaining(None), "too few blocks to say how many more a verdict takes");
    }

    #[test]
    fn the_time_of_a_block_is_typical() {
        assert_eq!(time_of_block(&[0.0, 1.0, 2.0, 60.0, 61.0]), Some(Duration::from_secs(1)));
        assert_eq!(time_of_block(&[0.0]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The stopping rule never looks ahead, and the first verdict stays.
        #[test]
        fn more_blocks_do_not_change_a_verdict(seed: u64, factor in 0.9..1.1_f64, size in 1_usize..6) {
            let all = blocks(seed, 60, size, factor);
            let claim = "p50(onnx-http) < p50(trt-http)";
            let decided = followed(claim, &all);
            for n in decided.blocks..=60 {
                let now = followed(claim, &all[..n]);
                if decided.is_decided() {
                    prop_assert_eq!(&now, &decided);
                }
            }
            for n in 0..decided.blocks {
                prop_assert!(!followed(claim, &all[..n]).is_decided());
            }
        }

        /// The opposite claim gets the opposite verdict after as many blocks.
        #[test]
        fn opposite_claims_get_opposite_verdicts(seed: u64, factor in 0.8..1.2_f64) {
            let all = blocks(seed, 40, 3, factor);
            let less = followed("p50(onnx-http) < p50(trt-http)", &all);
            let greater = followed("p50(onnx-http) > p50(trt-http)", &all);
            let opposite = match less.verdict {
                Verdict::Supported => Verdict::Refuted,
                Verdict::Refuted => Verdict::Supported,
                same => same,
            };
            prop_assert_eq!((greater.verdict, greater.blocks), (opposite, less.blocks));
            prop_assert_eq!(greater.expected, less.expected);
        }

        #[test]
        fn a_forecast_is_ahead(seed: u64, factor in 0.95..1.05_f64, count in 5_usize..30) {
            let standing = followed("mean(onnx-http) < mean(trt-http)", &blocks(seed, count, 2, factor));
            prop_assert!(standing.is_decided() || standing.expected.is_none_or(|expected| expected > count));
            prop_assert!(!standing.is_decided() || standing.blocks >= 4);
        }
    }
}
