//! Compares several runs layer by layer: the client's measurements, the server's time, compute time. Pure functions.
//!
//! A run's latency depends on its link as much as on its server. So runs are compared at every layer, and a warning
//! names each difference that changes direction between layers.

use serde::Serialize;

use crate::{
    analysis::{
        checks::{
            rule::{Finding, per_lane},
            warm_up::foreign_compute,
        },
        summary::{Cell, Summary},
    },
    model::{
        lane::Lane,
        load::Load,
        warning::{Severity, Warning},
        words::list,
    },
};

/// One run and the price of its machine.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its figures.
    pub summary: Summary,
    /// Price of its machine, in dollars per hour.
    pub price_per_hour: Option<f64>,
}

/// Which part of an image's time is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// All that the client saw, by throughput.
    Measured,
    /// The time in the server.
    Server,
    /// The model's compute time.
    Compute,
}

impl Layer {
    /// All of them, from the outside in.
    pub const ALL: [Self; 3] = [Self::Measured, Self::Server, Self::Compute];

    /// The layer's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Server => "server",
            Self::Compute => "compute",
        }
    }
}

/// Seconds that an image takes at a layer, with one request at a time; `None` if the server's counters are missing or
/// cover other requests.
pub fn seconds_per_image(summary: &Summary, cell: &Cell, layer: Layer) -> Option<f64> {
    let server = cell.server.filter(|_| foreign_compute(summary, cell).is_none());
    match layer {
        Layer::Measured => Some(1.0 / cell.images_per_s),
        Layer::Server => server.map(|server| server.request_ms / 1e3 / cell.images()),
        Layer::Compute => server.map(|server| server.compute_ms / 1e3 / cell.images()),
    }
}

/// Dollars for a million images at a layer.
pub fn dollars_per_million(run: &Run, cell: &Cell, layer: Layer) -> Option<f64> {
    Some(run.price_per_hour? / 3_600.0 * seconds_per_image(&run.summary, cell, layer)? * 1e6)
}

/// A lane and load for which the client and the server's compute time disagree on which of two runs is faster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reversal {
    /// The lane.
    pub lane: Lane,
    /// The load.
    pub load: Load,
    /// Name of the other run.
    pub run: String,
    /// Time of an image relative to the first run, measured by the client.
    pub measured: f64,
    /// The same by the server's compute time.
    pub compute: f64,
}

/// Where the client and the server's own counters disagree on which run is faster.
pub fn reversals(runs: &[Run]) -> Vec<Reversal> {
    let Some((base, others)) = runs.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for run in others {
        for cell in &run.summary.cells {
            let ratio = |layer| {
                let first = base.summary.cell(cell.lane, cell.load)?;
                let seconds = seconds_per_image(&run.summary, cell, layer)?;
                Some(seconds / seconds_per_image(&base.summary, first, layer)?)
            };
            let (Some(measured), Some(compute)) = (ratio(Layer::Measured), ratio(Layer::Compute)) else { continue };
            if (measured > 1.0) != (compute > 1.0) {
                let (lane, load, run) = (cell.lane, cell.load, run.summary.name.clone());
                found.push(Reversal { lane, load, run, measured, compute });
            }
        }
    }
    found
}

/// The warnings about a comparison.
pub fn warnings(runs: &[Run]) -> Vec<Warning> {
    let found = reversals(runs).into_iter().map(|reversal| {
        let Reversal { lane, load, run, measured, compute } = reversal;
        (lane, load, format!("{run} / first: {measured:.2}× by the client, {compute:.2}× in compute"))
    });
    let found = per_lane("client and server disagree on which run takes less time for an image", found);
    let remedy =
        "The client's figures include the link and the client's machine: compare servers by the servers' own times.";
    let warning = |finding: Finding| finding.warning("order-differs-by-layer", Severity::Warning, remedy);
    let mut warnings: Vec<Warning> = found.into_iter().map(warning).collect();
    let unknown = runs.iter().filter(|run| run.summary.link.is_none()).map(|run| run.summary.name.as_str());
    let unknown = list(unknown);
    if !unknown.is_empty() {
        let message = format!("the link of {unknown} is unknown, so its latency is not corrected for the link");
        let remedy = "Measure it with `quintet-bench link` and give it with --link, once for each file.";
        warnings.push(Finding { lanes: Vec::new(), message }.warning("link-unknown", Severity::Note, remedy));
    }
    warnings
}
