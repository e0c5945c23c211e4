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
        summary::{Cell, LaneServer, Summary},
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

/// What differs between the servers of the runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerDifference {
    /// What it is: `GPU`, `provider`, `onnxruntime`, ...
    pub what: String,
    /// The lanes that differ in this way.
    pub lanes: Vec<Lane>,
    /// Its value in each run; `None` where it is not known.
    pub values: Vec<Option<String>>,
}

/// What differs between the servers of the runs, lane by lane; a value that one run does not know is no difference.
pub fn server_differences(runs: &[Run]) -> Vec<ServerDifference> {
    let servers = || runs.iter().flat_map(|run| &run.summary.servers);
    let mut lanes: Vec<Lane> = servers().map(|server| server.lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let mut software: Vec<&str> =
        servers().flat_map(|server| server.machine.software.keys()).map(String::as_str).collect();
    software.sort_unstable();
    software.dedup();
    let known = ["GPU", "provider", "precision", "CPU threads", "platform", "instances"];
    let mut found: Vec<ServerDifference> = Vec::new();
    for what in known.into_iter().chain(software).chain(["commit"]) {
        for &lane in &lanes {
            let server = |run: &Run| run.summary.servers.iter().find(|server| server.lane == lane).cloned();
            let values: Vec<Option<String>> = runs.iter().map(|run| server_value(&server(run)?, what)).collect();
            let mut distinct: Vec<&String> = values.iter().flatten().collect();
            distinct.sort_unstable();
            distinct.dedup();
            if distinct.len() < 2 {
                continue;
            }
            match found.iter_mut().find(|other| other.what == what && other.values == values) {
                Some(same) => same.lanes.push(lane),
                None => found.push(ServerDifference { what: what.to_owned(), lanes: vec![lane], values }),
            }
        }
    }
    found
}

/// One property of a lane's server; `None` if it is not known.
fn server_value(server: &LaneServer, what: &str) -> Option<String> {
    let LaneServer { provider, precision, machine, .. } = server;
    match what {
        // A server that names its software has no GPU if it names none.
        "GPU" if machine.gpus.is_empty() => (!machine.software.is_empty()).then(|| "none".to_owned()),
        "GPU" => Some(list(&machine.gpus)),
        "provider" => provider.clone(),
        // A server that names its provider computes in the model's own precision if it names none.
        "precision" => precision.clone().or_else(|| provider.as_ref().map(|_| "the model's own".to_owned())),
        "CPU threads" => machine.threads.map(|threads| threads.to_string()),
        "platform" => machine.platform.clone(),
        "instances" => machine.instances.clone(),
        "commit" => machine.commit.clone(),
        software => machine.software.get(software).cloned(),
    }
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
    let differing = server_differences(runs);
    if !differing.is_empty() {
        let mut names: Vec<&str> = differing.iter().map(|difference| difference.what.as_str()).collect();
        names.dedup();
        let message = format!("the servers of the runs differ in {}", list(names));
        let remedy = "Attribute a difference of the figures to one of these only if the others are equal.";
        warnings.push(Finding { lanes: Vec::new(), message }.warning("servers-differ", Severity::Note, remedy));
    }
    let unknown = runs.iter().filter(|run| run.summary.link.is_none()).map(|run| run.summary.name.as_str());
    let unknown = list(unknown);
    if !unknown.is_empty() {
        let message = format!("the link of {unknown} is unknown, so its latency is not corrected for the link");
        let remedy = "Measure it with `quintet-bench link` and give it with --link, once for each file.";
        warnings.push(Finding { lanes: Vec::new(), message }.warning("link-unknown", Severity::Note, remedy));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::machine::Machine};

    fn run(name: &str, change: impl Fn(&mut Machine)) -> Run {
        let mut report = fixture::report();
        report.lanes.iter_mut().for_each(|info| change(&mut info.machine));
        Run { summary: Summary::from_report(name, &report), price_per_hour: None }
    }

    fn on(gpu: &str, driver: &str) -> Run {
        run(gpu, |machine| {
            machine.gpus = vec![gpu.into()];
            machine.software = [("nvidia-driver".into(), driver.into()), ("cuda".into(), "12.8".into())].into();
        })
    }

    #[test]
    fn the_difference_of_two_machines_is_named() {
        let runs = [on("NVIDIA GeForce RTX 4090", "570.1"), on("NVIDIA A100", "535.2")];
        let found = server_differences(&runs);
        let shown: Vec<_> = found.iter().map(|f| (f.what.as_str(), f.lanes.len(), f.values[1].as_deref())).collect();
        assert_eq!(shown, [("GPU", 5, Some("NVIDIA A100")), ("nvidia-driver", 5, Some("535.2"))]);
        let codes: Vec<_> = warnings(&runs).into_iter().map(|warning| (warning.code, warning.message)).collect();
        assert_eq!(codes[0], ("servers-differ".into(), "the servers of the runs differ in GPU, nvidia-driver".into()));
        assert_eq!(server_differences(&[on("NVIDIA A100", "1"), on("NVIDIA A100", "1")]), []);
    }

    #[test]
    fn what_one_run_does_not_know_is_no_difference() {
        let silent = run("triton", |_| {});
        assert_eq!(server_differences(&[on("NVIDIA A100", "1"), silent]), []);
        let cpu = run("cpu", |machine| machine.software = [("onnxruntime".into(), "1.24.1".into())].into());
        let found = server_differences(&[on("NVIDIA A100", "1"), cpu]);
        assert_eq!(found[0].values, [Some("NVIDIA A100".to_owned()), Some("none".to_owned())]);
    }
}
