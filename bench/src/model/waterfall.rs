//! A cell's mean latency, split into parts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    estimate::Estimate,
    part::{Location, Part},
};

/// Where the server's parts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Stage times in every response (`Server-Timing`).
    StageTimes,
    /// Triton's counters over the window: queue, copies and compute; the rest is unknown.
    Counters,
    /// None: only the client's parts are known.
    Client,
}

/// One part of a cell's mean latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartTime {
    /// The part.
    pub part: Part,
    /// Where it is spent.
    pub place: Location,
    /// Its mean for each request, in ms; `None` (null) if it is not known separately.
    pub ms: Option<Estimate>,
}

/// A cell's mean latency in parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waterfall {
    /// Where the server's parts come from.
    pub source: Source,
    /// The parts in order. `unknown` is the sum of those that are not known separately.
    pub parts: Vec<PartTime>,
    /// The measured mean latency since the request was sent, in ms.
    pub latency_ms: f64,
    /// The sum of the parts, in ms.
    pub sum_ms: f64,
    /// Deviation of the sum from the latency, as a share of the latency.
    pub gap: f64,
}

/// Largest deviation of the parts' sum from the measured latency without a warning, as a share of the latency.
pub const TOLERANCE: f64 = 0.03;

impl Waterfall {
    /// The mean of a part, in ms, where it is known.
    pub fn ms(&self, part: Part) -> Option<f64> {
        self.parts.iter().find(|time| time.part == part)?.ms.map(|ms| ms.value)
    }

    /// The mean time spent at a place, in ms; `None` if a part of it is not known.
    pub fn at(&self, place: Location) -> Option<f64> {
        self.parts.iter().filter(|time| time.place == place).map(|time| time.ms.map(|ms| ms.value)).sum()
    }

    /// The parts whose sum is `unknown`.
    pub fn unknown(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().filter(|time| time.ms.is_none()).map(|time| time.part)
    }

    /// Whether the parts add up to the latency.
    pub fn adds_up(&self) -> bool {
        self.gap.abs() <= TOLERANCE
    }
}
