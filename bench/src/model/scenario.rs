//! The scenarios of MLPerf Inference: what each asks for, and the results of a run.
//!
//! Numbers are those of MLPerf's inference rules (`inference_rules.adoc`, section "Scenarios", and the early stopping
//! criterion) and of LoadGen's `mlperf.conf`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{cell::Cell, connection::Policy, encoding::Encoding, lane::Lane, load::Load, transport::Transport};

/// The shortest time of a valid run.
pub const LEAST_DURATION: Duration = Duration::from_secs(600);
/// MLPerf's bound on p99 of ResNet-50 in the scenario Server.
pub const SERVER_BOUND: Duration = Duration::from_millis(15);
/// Samples in a query of MultiStream.
pub const MULTI_STREAM_SAMPLES: usize = 8;

/// A scenario of MLPerf Inference. A sample is an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Scenario {
    /// One sample after another; 90th percentile of the latency.
    SingleStream,
    /// Queries of eight samples, one after another; 99th percentile of the latency of a query.
    MultiStream,
    /// All samples at once; samples per second.
    Offline,
    /// Queries of one sample at random times (a Poisson process); queries per second with p99 within a bound.
    Server,
}

impl Scenario {
    /// MLPerf's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleStream => "SingleStream",
            Self::MultiStream => "MultiStream",
            Self::Offline => "Offline",
            Self::Server => "Server",
        }
    }

    /// The quantile that is the result or, for Server, bounded; `None` for Offline.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::SingleStream => Some(0.9),
            Self::MultiStream | Self::Server => Some(0.99),
            Self::Offline => None,
        }
    }

    /// The fewest queries of a valid run, by the early stopping criterion; for Offline the fewest samples of its one query.
    pub fn least_queries(self) -> u64 {
        match self {
            Self::SingleStream => 64,
            Self::MultiStream | Self::Server => 662,
            Self::Offline => 24_576,
        }
    }

    /// What [`Scenario::least_queries`] counts.
    pub fn counted(self) -> &'static str {
        if self == Self::Offline { "samples" } else { "queries" }
    }

    /// What the result is, with its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::SingleStream => "p90 (ms)",
            Self::MultiStream => "p99 of a query (ms)",
            Self::Offline => "samples/s",
            Self::Server => "queries/s",
        }
    }
}

/// The results of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResults {
    /// The scenario.
    pub scenario: Scenario,
    /// Shortest time that was asked for, in seconds.
    pub min_duration_s: f64,
    /// Fewest queries that were asked for; samples for Offline.
    pub min_queries: u64,
    /// Bound on p99, in ms; for Server.
    pub bound_ms: Option<f64>,
    /// A result for each lane and variant.
    pub results: Vec<ScenarioResult>,
}

/// The result of a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResult {
    /// The lane.
    pub lane: Lane,
    /// The connection policy.
    pub connection: Policy,
    /// The form of the images.
    pub payload: Option<Encoding>,
    /// The transport of the tensors.
    pub transport: Transport,
    /// The load; `None` (null) if no rate was found for Server.
    pub load: Option<Load>,
    /// The result in the scenario's unit; of a latency the early-stopping estimate, which the true percentile does not
    /// exceed with 99 % probability. `None` (null) if there are too few queries for one.
    pub value: Option<f64>,
    /// The empirical percentile of the latency of a query, in ms.
    pub percentile_ms: Option<f64>,
    /// Queries answered; samples for Offline.
    pub queries: u64,
    /// Measured time, in seconds.
    pub duration_s: f64,
    /// Why the result is INVALID by MLPerf's rules; empty if it is VALID.
    pub invalid: Vec<String>,
}

impl ScenarioResult {
    /// VALID or INVALID.
    pub fn validity(&self) -> &'static str {
        if self.invalid.is_empty() { "VALID" } else { "INVALID" }
    }
}

impl ScenarioResults {
    /// The result of a cell.
    pub fn of(&self, cell: &Cell) -> Option<&ScenarioResult> {
        self.results.iter().find(|result| {
            (result.lane, result.connection, result.payload, result.transport)
                == (cell.lane, cell.connection, cell.payload, cell.transport)
        })
    }
}
