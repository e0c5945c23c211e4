//! Judges hypotheses about two lanes: supported, refuted or inconclusive. Pure functions.
//!
//! A verdict needs a paired interval. If the interval does not exclude the opposite of the claim, the verdict is
//! "inconclusive", never "the same", and states how many samples are needed. [`crate::model::hypothesis`] has the
//! types, [`crate::model::hypothesis_text`] parses them.

pub mod sequential;

use crate::{
    analysis::{
        anytime,
        pairing::{Pair, blocks_needed, paired},
    },
    model::{
        cell::Cell,
        difference::Difference,
        estimate::Estimate,
        hypothesis::{Finding, Hypothesis, Judged, Relation, SampleSize, Verdict},
        metric::Metric,
        report::Report,
        settings::Settings,
    },
};

pub use crate::model::hypothesis_text::HypothesisError;

/// Judges the user's own claims.
pub fn judge(report: &Report) -> Vec<Finding> {
    let found = report.settings.hypotheses.iter().map(|claim| {
        let judged = claim.judge(report);
        Finding {
            name: "user".into(),
            statement: claim.to_string(),
            verdict: judged.verdict,
            reason: judged.reason.clone(),
            claims: vec![judged],
        }
    });
    found.collect()
}

/// The difference of two cells by a metric: left minus factor times right. In a run until decided its interval holds at
/// every block.
pub fn difference(left: &Cell, right: &Cell, metric: Metric, factor: f64, settings: &Settings) -> Option<Difference> {
    let (a, b) = (metric.values(left)?, metric.values(right)?);
    let blocks: Vec<Pair<'_>> = a.iter().zip(&b).map(|(a, b)| (&a[..], &b[..])).collect();
    if settings.until_decided.is_some() {
        return anytime::paired(&blocks, metric.statistic(), factor);
    }
    // A single value on either side has no spread.
    if let [(a, b)] = blocks[..]
        && a.len().min(b.len()) < 2
    {
        return None;
    }
    paired(&blocks, metric.statistic(), factor, settings.seed)
}

impl Hypothesis {
    /// Judges the claim by the report's measurements.
    pub fn judge(&self, report: &Report) -> Judged {
        let open = |effect, needs, reason: String| Judged {
            claim: self.clone(),
            verdict: Verdict::Inconclusive,
            effect,
            needs,
            reason: Some(reason),
            decided_after: None,
        };
        let cell =
            |lane| report.cell(lane, self.load).ok_or_else(|| format!("{lane} was not measured at {}", self.load));
        let (left, right) = match (cell(self.left), cell(self.right)) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(reason), _) | (_, Err(reason)) => return open(None, None, reason),
        };
        if let Some(until) = report.settings.until_decided {
            return sequential::judge(self, left, right, until);
        }
        let Some(effect) = difference(left, right, self.metric, self.factor, &report.settings) else {
            return open(None, None, format!("{} is not known on both lanes", self.metric));
        };
        if !effect.paired {
            let reason = "one block for each lane: the difference may be drift of the machine";
            return open(Some(effect), None, reason.into());
        }
        let (fewest, there) = (self.metric.statistic().fewest_for_verdict(), effect.difference.n);
        if there < fewest {
            let blocks = (effect.blocks * fewest).div_ceil(there.max(1));
            let needs = SampleSize { blocks, requests: fewest };
            let reason =
                format!("a verdict on {} needs {fewest} requests for each lane, there are {there}", self.metric);
            return open(Some(effect), Some(needs), reason);
        }
        let (verdict, interval, bound) = self.relation.decide(&effect, self.factor);
        if verdict != Verdict::Inconclusive {
            let (claim, effect) = (self.clone(), Some(effect));
            return Judged { claim, verdict, effect, needs: None, reason: None, decided_after: None };
        }
        let per_block = |cell: &Cell| cell.completed.div_ceil(cell.blocks.len().max(1) as u64) as usize;
        let needs = interval.and_then(|interval| blocks_needed(interval, bound, effect.blocks)).map(|blocks| {
            // At least one block more than were measured, because those were not enough.
            let blocks = blocks.max(effect.blocks + 1);
            SampleSize { blocks, requests: blocks * per_block(left).max(per_block(right)) }
        });
        let reason =
            if needs.is_some() { "too few samples" } else { "the effect is too close to the bound for a verdict" };
        open(Some(effect), needs, reason.into())
    }
}

impl Relation {
    /// The verdict on left against `factor` times right, the interval that it is based on, and the bound nearest to its
    /// value.
    fn decide(self, effect: &Difference, factor: f64) -> (Verdict, Option<Estimate>, f64) {
        let Difference { difference, ratio, .. } = *effect;
        let below = |e: Estimate, bound: f64| match e {
            e if e.high < bound => Verdict::Supported,
            e if e.low > bound => Verdict::Refuted,
            _ => Verdict::Inconclusive,
        };
        match (self, ratio) {
            (Self::Less, _) => (below(difference, 0.0), Some(difference), 0.0),
            (Self::Greater, _) => (below(difference.negated(), 0.0), Some(difference), 0.0),
            (Self::Within(_), None) => (Verdict::Inconclusive, None, 1.0),
            (Self::Within(margin), Some(ratio)) => {
                // The ratio is of the two lanes.
                let (low, high) = (factor / (1.0 + margin), factor * (1.0 + margin));
                let verdict = if low <= ratio.low && ratio.high <= high {
                    Verdict::Supported
                } else if ratio.high < low || high < ratio.low {
                    Verdict::Refuted
                } else {
                    Verdict::Inconclusive
                };
                let nearest = if (ratio.value - low).abs() < (ratio.value - high).abs() { low } else { high };
                (verdict, Some(ratio), nearest)
            }
        }
    }
}

#[cfg(test)]
mod tests;
