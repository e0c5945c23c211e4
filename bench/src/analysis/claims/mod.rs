//! Hypotheses about the lanes: supported, refuted or inconclusive, with the effect and what would settle it. Pure.
//!
//! [`crate::model::hypothesis_text`] reads what a user claims; [`crate::study::hypotheses`] has the study's five. A verdict needs a paired interval: where
//! it does not exclude the contrary, the answer is "inconclusive", never "the same".

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::model::hypothesis_text::HypothesisError;

use crate::{
    analysis::{
        metric::Metric,
        pairing::{Difference, Pair, blocks_to_settle, paired},
        stats::Estimate,
    },
    model::lane::Lane,
    report::{Cell, Report},
    run::plan::Load,
};

/// How two lanes are claimed to compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relation {
    /// `<`: the left side is smaller.
    Less,
    /// `>`: the left side is larger.
    Greater,
    /// `~ 5%`: their ratio is within that share of 1.
    Within(f64),
}

/// `metric(left) relation factor * metric(right) @ load`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub struct Hypothesis {
    /// What is compared.
    pub metric: Metric,
    /// The left lane.
    pub left: Lane,
    /// The claim.
    pub relation: Relation,
    /// What the right side is multiplied by; 1 unless told.
    pub factor: f64,
    /// The right lane.
    pub right: Lane,
    /// Under which load.
    pub load: Load,
}

/// What the measurements say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The interval lies within what is claimed.
    Supported,
    /// The interval leaves out the claim or its contrary nowhere: more samples are needed, or it was not measured.
    Inconclusive,
    /// The interval lies outside of what is claimed.
    Refuted,
}

impl Verdict {
    /// The verdict in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Inconclusive => "inconclusive",
            Self::Refuted => "refuted",
        }
    }

    /// The verdict on several claims of which all must hold; nothing claimed is nothing shown.
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Inconclusive)
    }
}

/// A number of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SampleSize {
    /// Blocks for each lane.
    pub blocks: usize,
    /// Requests for each lane, in blocks of the present size.
    pub requests: usize,
}

/// One claim, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The claim.
    pub claim: Hypothesis,
    /// The verdict.
    pub verdict: Verdict,
    /// Left minus right, where both were measured.
    pub effect: Option<Difference>,
    /// The sample that would settle it with 80 % power if the effect is what it seems; for inconclusive ones.
    pub needs: Option<SampleSize>,
    /// What stands in the way, if anything.
    pub reason: Option<String>,
}

/// A hypothesis: one or more claims of which all must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `H1` to `H5`, or `user`.
    pub name: String,
    /// In words.
    pub statement: String,
    /// The verdict on all claims together.
    pub verdict: Verdict,
    /// Why there is none, where nothing could be judged.
    pub reason: Option<String>,
    /// The claims.
    pub claims: Vec<Judged>,
}

/// Judges the study's hypotheses and the user's own.
pub fn judge(report: &Report) -> Vec<Finding> {
    let own = report.settings.hypotheses.iter().map(|claim| {
        let judged = claim.judge(report);
        Finding {
            name: "user".into(),
            statement: claim.to_string(),
            verdict: judged.verdict,
            reason: judged.reason.clone(),
            claims: vec![judged],
        }
    });
    crate::study::hypotheses::findings(report).into_iter().chain(own).collect()
}

/// The difference of two cells by a metric: left minus factor times right.
pub fn difference(left: &Cell, right: &Cell, metric: Metric, factor: f64, seed: u64) -> Option<Difference> {
    let (a, b) = (metric.values(left)?, metric.values(right)?);
    let blocks: Vec<Pair<'_>> = a.iter().zip(&b).map(|(a, b)| (&a[..], &b[..])).collect();
    // A single value on either side has no spread at all.
    if let [(a, b)] = blocks[..]
        && a.len().min(b.len()) < 2
    {
        return None;
    }
    paired(&blocks, metric.statistic(), factor, seed)
}

impl Hypothesis {
    /// Judges the claim by what was measured.
    pub fn judge(&self, report: &Report) -> Judged {
        let open = |effect, needs, reason: String| Judged {
            claim: self.clone(),
            verdict: Verdict::Inconclusive,
            effect,
            needs,
            reason: Some(reason),
        };
        let cell =
            |lane| report.cell(lane, self.load).ok_or_else(|| format!("{lane} was not measured at {}", self.load));
        let (left, right) = match (cell(self.left), cell(self.right)) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(reason), _) | (_, Err(reason)) => return open(None, None, reason),
        };
        let Some(effect) = difference(left, right, self.metric, self.factor, report.settings.seed) else {
            return open(None, None, format!("{} is not known on both lanes", self.metric));
        };
        if !effect.paired {
            let reason = "one block for each lane: what the machine did meanwhile cannot be told from the lanes";
            return open(Some(effect), None, reason.into());
        }
        let (verdict, interval, bound) = self.relation.decide(&effect);
        if verdict != Verdict::Inconclusive {
            return Judged { claim: self.clone(), verdict, effect: Some(effect), needs: None, reason: None };
        }
        let per_block = |cell: &Cell| cell.completed.div_ceil(cell.blocks.len().max(1) as u64) as usize;
        let needs = interval.and_then(|interval| blocks_to_settle(interval, bound, effect.blocks)).map(|blocks| {
            // Fewer than there are would not do: the effect is smaller than it seems.
            let blocks = blocks.max(effect.blocks + 1);
            SampleSize { blocks, requests: blocks * per_block(left).max(per_block(right)) }
        });
        let reason =
            if needs.is_some() { "too few samples" } else { "the effect is too close to the bound to be settled" };
        open(Some(effect), needs, reason.into())
    }
}

impl Relation {
    /// The verdict, the interval that it rests on, and the bound nearest to its value.
    fn decide(self, effect: &Difference) -> (Verdict, Option<Estimate>, f64) {
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
                let (low, high) = (1.0 / (1.0 + margin), 1.0 + margin);
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
