//! A measured quantity with its 95 % interval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two-sided confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// A measured quantity with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval, at most `value`.
    pub low: f64,
    /// Upper end of the interval, at least `value`.
    pub high: f64,
    /// Number of samples.
    pub n: usize,
}

impl Estimate {
    /// An estimate whose interval is widened, where needed, to contain the value.
    pub fn new(value: f64, low: f64, high: f64, n: usize) -> Self {
        Self { value, low: low.min(value), high: high.max(value), n }
    }

    /// The same estimate in another unit (`factor` > 0).
    pub fn scaled(self, factor: f64) -> Self {
        Self { value: self.value * factor, low: self.low * factor, high: self.high * factor, n: self.n }
    }

    /// The same estimate with the opposite sign.
    pub fn negated(self) -> Self {
        Self { value: -self.value, low: -self.high, high: -self.low, n: self.n }
    }

    /// The sum of two independent estimates; the interval is the wide one (low + low, high + high).
    pub fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            low: self.low + other.low,
            high: self.high + other.high,
            n: self.n.min(other.n),
        }
    }
}

/// A tail percentile: known with its interval, or unknown with the reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Percentile {
    /// Enough samples for an interval.
    Known(Estimate),
    /// Too few samples: the interval's upper end would lie beyond the largest one.
    Unknown {
        /// Always `None` (null in JSON), so that a reader never takes the reason for a figure.
        value: Option<f64>,
        /// Why it is unknown.
        reason: String,
    },
}

impl Percentile {
    /// The estimate, if there is one.
    pub fn known(&self) -> Option<Estimate> {
        match self {
            Self::Known(estimate) => Some(*estimate),
            Self::Unknown { .. } => None,
        }
    }
}

/// Which statistic a bootstrap estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The mean.
    Mean,
    /// The median.
    Median,
    /// The 0.95-quantile.
    P95,
    /// The 0.99-quantile.
    P99,
}
