//! A server's own counters.

pub mod counters;
pub mod scrape;
