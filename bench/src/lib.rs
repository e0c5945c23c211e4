//! Drives the five lanes side by side and reports where the time of a request goes.

pub mod client;
pub mod compare;
pub mod counters;
pub mod environment;
pub mod payload;
pub mod plan;
pub mod record;
pub mod settings;
pub mod stats;
pub mod target;
