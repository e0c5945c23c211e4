//! The difference between two lanes, with its interval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::estimate::Estimate;

/// One lane's statistic minus another's (times a factor, usually 1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// First minus factor times second, in the samples' unit.
    pub difference: Estimate,
    /// First divided by second; `None` if the second is not positive.
    pub ratio: Option<Estimate>,
    /// Blocks that both lanes have.
    pub blocks: usize,
    /// Whether the interval is of pairs of blocks. A single block is not paired: the requests of each lane are
    /// resampled separately, and drift between the two stays in the difference.
    pub paired: bool,
}

impl Difference {
    /// Whether the interval excludes 0.
    pub fn is_clear(&self) -> bool {
        self.difference.low > 0.0 || self.difference.high < 0.0
    }

    /// Whether the interval excludes 0 and is of pairs. Without pairs, drift of the machine can do the same.
    pub fn is_significant(&self) -> bool {
        self.paired && self.is_clear()
    }
}
