//! Statistics and conclusions: pure functions of `model`.
//!
//! ```text
//! measurements -> cell (timing, waterfall, samples) -> conclude: pairing, claims, checks -> report
//! report -> summary -> checks, predict, compare, scaling
//! two reports -> changes; a report -> conditions
//! ```
//! To add a warning, see [`checks`].

pub mod anytime;
pub mod batches;
pub mod capacity;
pub mod cell;
pub mod changes;
pub mod checks;
pub mod claims;
pub mod compare;
pub mod conclude;
pub mod conditions;
pub mod metric;
pub mod outputs;
pub mod pairing;
pub mod predict;
pub mod samples;
pub mod scaling;
pub mod scenario;
pub mod sequence;
pub mod slo;
pub mod stats;
pub mod summary;
pub mod timing;
pub mod waterfall;
