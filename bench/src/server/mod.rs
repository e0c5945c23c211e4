//! What a server says of itself: its counters.

pub mod counters;
pub mod scrape;
