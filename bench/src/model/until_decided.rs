//! When a run goes on until its claims are decided.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::seconds;

/// A run whose blocks go on until every claim is decided. Its intervals hold at every block at once, because they were looked
/// at after each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UntilDecided {
    /// Longest time of the run, in seconds.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub most: Duration,
    /// Two sides of a claim with `<` or `>` are equivalent if their ratio is within this share of 1.
    pub margin: f64,
}

/// The default margin.
pub const MARGIN: f64 = 0.02;
