//! Statistics and conclusions: pure functions of `model`.
//!
//! ```text
//! measurements -> cell (timing, waterfall, samples) -> conclude: pairing, claims, checks -> report
//! report -> summary -> checks, explain, compare
//! two reports -> changes; a report -> conditions
//! ```
//! To add a warning, see [`checks`].

pub mod anytime;
pub mod batches;
pub mod cell;
pub mod changes;
pub mod checks;
pub mod claims;
pub mod compare;
pub mod conclude;
pub mod conditions;
pub mod explain;
pub mod metric;
pub mod outputs;
pub mod pairing;
pub mod samples;
pub mod sequence;
pub mod stats;
pub mod summary;
pub mod timing;
pub mod waterfall;
