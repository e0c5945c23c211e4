//! The search for the highest rate within a bound on p99: goal, probes, answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    arrivals::{Arrivals, Rate},
    lane::Lane,
};

/// The goal of a search.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Bound on p99 from the intended send time.
    pub p99: Duration,
    /// How the send times are distributed.
    pub arrivals: Arrivals,
    /// The first rate to try.
    pub start: Rate,
    /// The highest rate to try.
    pub most: Rate,
    /// Most probes of each lane.
    pub probes: usize,
    /// Longest measured time of a probe; it lasts at least until it has the requests that a verdict needs, but no longer.
    pub longest: Duration,
}

impl Goal {
    /// The bound in ms.
    pub fn bound_ms(&self) -> f64 {
        self.p99.as_secs_f64() * 1e3
    }
}

/// One lane measured at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Requests per second offered.
    pub rate_per_s: f64,
    /// Requests per second completed.
    pub achieved_per_s: f64,
    /// p99 from the intended send time, in ms.
    pub p99_ms: Option<f64>,
    /// A value that the true p99 does not exceed with 99 % probability, in ms; `None` with too few requests.
    pub p99_at_most_ms: Option<f64>,
    /// How much later than intended the client sent, in ms: 99th percentile.
    pub lag_p99_ms: Option<f64>,
    /// Requests with a latency.
    pub requests: usize,
    /// Requests that failed or were never sent.
    pub lost: u64,
    /// Whether the bound held.
    pub verdict: Verdict,
}

/// What a probe shows about the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No request was lost, and the true p99 is within the bound with 99 % probability.
    Met,
    /// A request was lost, or the true p99 is above the bound with 99 % probability.
    Missed,
    /// Neither: too few requests, or a p99 too close to the bound.
    Undecided,
    /// The bound was not met, but the client sent late: that says nothing about the server.
    ClientLate,
}

/// The result of the search for one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The lane.
    pub lane: Lane,
    /// The highest rate that certainly held, in requests per second.
    pub highest_per_s: Option<f64>,
    /// The lowest rate that certainly did not hold.
    pub fails_at_per_s: Option<f64>,
    /// The lowest rate at which the client sent late twice: the server may hold more than was found.
    pub client_limited_at_per_s: Option<f64>,
    /// All probes, in order.
    pub probes: Vec<Probe>,
}
