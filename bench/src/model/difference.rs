//! The difference between two lanes, with its interval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::estimate::Estimate;

/// One lane's statistic minus another's (times a factor, usually 1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// First minus factor times second, in the samples' unit.
    pub difference: Estimate,
    /// First by second; `None` where the second is not positive.
    pub ratio: Option<Estimate>,
    /// Blocks that both lanes have.
    pub blocks: usize,
    /// Whether the interval is of pairs. With a single block there are no pairs: the requests of each lane
    /// are resampled on their own, and drift between the two is not accounted for.
    pub paired: bool,
}

impl Difference {
    /// Whether the interval leaves out 0.
    pub fn is_clear(&self) -> bool {
        self.difference.low > 0.0 || self.difference.high < 0.0
    }
}
