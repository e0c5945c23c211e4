//! What the measurements mean: pure functions of `model`.

pub mod cell;
pub mod checks;
pub mod claims;
pub mod compare;
pub mod explain;
pub mod metric;
pub mod outputs;
pub mod pairing;
pub mod stats;
pub mod summary;
pub mod waterfall;
