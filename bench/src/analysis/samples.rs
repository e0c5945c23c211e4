//! Turns samples into columns.

use crate::{
    analysis::waterfall,
    model::{sample::Sample, samples::Samples},
};

impl Samples {
    /// The columns of `samples`.
    pub fn new(samples: &[Sample]) -> Self {
        let us = |duration: std::time::Duration| duration.as_nanos() as f64 / 1e3;
        Self {
            start_us: samples.iter().map(|s| us(s.start)).collect(),
            latency_us: samples.iter().map(|s| us(s.latency)).collect(),
            lag_us: samples.iter().map(|s| us(s.lag)).collect(),
            parts_us: waterfall::columns(samples),
        }
    }
}
