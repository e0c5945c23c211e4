//! Metrics that two lanes are compared by.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{estimate::Statistic, part::Part};

/// A metric of a cell. Times are in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub enum Metric {
    /// A statistic of the latency: `mean`, `p50`, `p95`, `p99`.
    Latency(Statistic),
    /// `throughput`: images per second.
    Throughput,
    /// The mean of a part of the latency, by its name: `infer`, `queue`, `network`, ...
    Part(Part),
}

impl Metric {
    /// All metrics, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Self> {
        let latency = [Statistic::Median, Statistic::Mean, Statistic::P95, Statistic::P99].map(Self::Latency);
        let parts = Part::ALL.into_iter().filter(|part| *part != Part::Unknown).map(Self::Part);
        latency.into_iter().chain([Self::Throughput]).chain(parts)
    }

    /// The name in reports and hypotheses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency(Statistic::Median) => "p50",
            Self::Latency(Statistic::Mean) => "mean",
            Self::Latency(Statistic::P95) => "p95",
            Self::Latency(Statistic::P99) => "p99",
            Self::Throughput => "throughput",
            Self::Part(part) => part.name(),
        }
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        if self == Self::Throughput { "img/s" } else { "ms" }
    }

    /// The statistic that summarises its values.
    pub fn statistic(self) -> Statistic {
        match self {
            Self::Latency(statistic) => statistic,
            Self::Throughput | Self::Part(_) => Statistic::Mean,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::all().find(|metric| metric.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(Self::name).collect();
            format!("`{name}` is not a metric; metrics are {}", known.join(", "))
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.name().to_owned()
    }
}
