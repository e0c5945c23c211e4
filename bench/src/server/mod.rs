//! Reads the counters that a server keeps of itself.

pub mod counters;
pub mod scrape;
