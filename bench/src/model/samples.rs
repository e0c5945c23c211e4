//! Raw samples of a cell, column by column.

use std::collections::BTreeMap;

use crate::model::part::Part;

/// Raw samples, column by column, in the order of the cell's blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Intended send time of each request, in µs since the start of the run.
    pub start_us: Vec<f64>,
    /// Completion minus start, in µs.
    pub latency_us: Vec<f64>,
    /// Delay from the intended to the actual send, in µs; 0 in a closed loop.
    pub lag_us: Vec<f64>,
    /// The parts of the latency without the lag, in µs.
    pub parts_us: BTreeMap<Part, Vec<f64>>,
}

impl Samples {
    /// Completion minus send, in µs: the sum of the parts.
    pub fn service_us(&self) -> Vec<f64> {
        self.latency_us.iter().zip(&self.lag_us).map(|(latency, lag)| latency - lag).collect()
    }
}
