//! What two lanes are compared by, and a cell's values of it, block by block. Pure.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::{stats::Statistic, waterfall::Part},
    report::{Block, Cell},
    run::plan::Load,
};

/// Slices of a window whose rates stand for it.
const WINDOW_SLICES: usize = 10;

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

    /// How its values are summed up.
    pub fn statistic(self) -> Statistic {
        match self {
            Self::Latency(statistic) => statistic,
            Self::Throughput | Self::Part(_) => Statistic::Mean,
        }
    }

    /// A cell's values, block by block; `None` where the cell does not know the metric. A block's
    /// throughput is one value, or one for each slice of a window.
    pub fn values(self, cell: &Cell) -> Option<Vec<Vec<f64>>> {
        let column = match self {
            Self::Latency(_) => &cell.samples.latency_us,
            Self::Part(part) => cell.samples.parts_us.get(&part)?,
            Self::Throughput => return Some(cell.blocks.iter().map(|block| rates(cell, block)).collect()),
        };
        let of = |block: &Block| {
            let us = column.get(block.first..block.first + block.samples)?;
            Some(us.iter().map(|us| us / 1e3).collect())
        };
        cell.blocks.iter().map(of).collect()
    }
}

fn rates(cell: &Cell, block: &Block) -> Vec<f64> {
    if block.wall_s <= 0.0 || block.samples == 0 {
        return Vec::new();
    }
    let images = cell.load.batch() as f64;
    let samples = block.first..block.first + block.samples;
    match (cell.load, cell.samples.start_us.get(samples.clone()), cell.samples.latency_us.get(samples)) {
        (Load::Concurrent { .. } | Load::Open { .. }, Some(start_us), Some(latency_us)) => {
            let mut counts = [0.0; WINDOW_SLICES];
            for (start, latency) in start_us.iter().zip(latency_us) {
                let at = ((start + latency) / 1e6 - block.start_s) / block.wall_s;
                // In an open loop some are completed after the window.
                if at <= 1.0 || matches!(cell.load, Load::Concurrent { .. }) {
                    counts[((at * WINDOW_SLICES as f64) as usize).min(WINDOW_SLICES - 1)] += 1.0;
                }
            }
            counts.map(|count| count * images * WINDOW_SLICES as f64 / block.wall_s).to_vec()
        }
        _ => vec![block.samples as f64 * images / block.wall_s],
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.name().to_owned()
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::all().find(|metric| metric.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(Self::name).collect();
            format!("no metric `{name}`; metrics are {}", known.join(", "))
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}
