//! Hypotheses about two lanes, and their verdicts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{difference::Difference, lane::Lane, load::Load, metric::Metric};

/// What the measurements say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The interval lies within the claim.
    Supported,
    /// The two sides are within the margin of each other (only in runs until decided).
    Equivalent,
    /// The interval excludes neither the claim nor its opposite, so more samples are needed; or it was not measured.
    Inconclusive,
    /// The interval lies outside the claim.
    Refuted,
}

impl Verdict {
    /// The verdict as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Equivalent => "equivalent",
            Self::Inconclusive => "inconclusive",
            Self::Refuted => "refuted",
        }
    }

    /// The verdict on several claims that must all hold; inconclusive without a claim.
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Inconclusive)
    }
}

/// A number of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SampleSize {
    /// Blocks for each lane.
    pub blocks: usize,
    /// Requests for each lane, in blocks of the same size.
    pub requests: usize,
}

/// A claim and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The claim.
    pub claim: Hypothesis,
    /// The verdict.
    pub verdict: Verdict,
    /// Left minus right, where both were measured.
    pub effect: Option<Difference>,
    /// For inconclusive claims: the samples that would give a verdict with 80 % power if the effect is as large as
    /// measured.
    pub needs: Option<SampleSize>,
    /// The reason if the claim is inconclusive.
    pub reason: Option<String>,
    /// The samples after which it was decided, in a run until decided. `effect` is the difference at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_after: Option<SampleSize>,
}

impl Judged {
    /// What a verdict takes, or the samples after which it was decided.
    pub fn cost(&self) -> Option<String> {
        let of = |size: SampleSize| format!("{} requests for each lane in {} blocks", size.requests, size.blocks);
        let decided = self.decided_after.map(|size| format!("decided after {}", of(size)));
        decided.or_else(|| self.needs.map(of))
    }
}

/// A hypothesis: one or more claims that must all hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `H1` to `H5`, or `user`.
    pub name: String,
    /// The hypothesis in words.
    pub statement: String,
    /// The verdict on all claims together.
    pub verdict: Verdict,
    /// The reason if nothing could be judged.
    pub reason: Option<String>,
    /// The claims.
    pub claims: Vec<Judged>,
}

/// The relation of two lanes that a claim states.
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
    /// Factor of the right side; 1 by default.
    pub factor: f64,
    /// The right lane.
    pub right: Lane,
    /// The load.
    pub load: Load,
}
