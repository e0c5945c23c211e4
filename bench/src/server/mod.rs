//! Reads what a server says of itself: counters, the state of its GPUs, configurations.

pub mod config;
pub mod counters;
pub mod description;
pub mod gpus;
mod page;
pub mod scrape;
