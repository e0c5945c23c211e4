//! The report: everything a run found out, and the exporters that write it down.

pub mod axes;
pub mod cell;
mod json;
mod markdown;

use quintet_proto::lanes::Lane;
use serde::{Deserialize, Serialize};

pub use cell::{Cell, Measured, MeasuredBlock, WarmUp};
pub use json::Json;
pub use markdown::Markdown;

use crate::{
    compare::Comparison,
    environment::Environment,
    payload::PhotographInfo,
    plan::Load,
    settings::Settings,
    stats::{Estimate, Statistic, bootstrap_with},
    target::lane_name,
    warnings::Warning,
};

/// Version of the JSON form. Fields may be added under one version; none changes its meaning.
pub const SCHEMA: &str = "quintet-report/1";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// When the run began, in UTC (`YYYYMMDDTHHMMSSZ`).
    pub started_at: String,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// What was asked for.
    pub settings: Settings,
    /// Where it was asked from.
    pub environment: Environment,
    /// The lanes and what their servers say about themselves.
    pub lanes: Vec<LaneInfo>,
    /// The photographs sent.
    pub photographs: Vec<PhotographInfo>,
    /// Preprocessing of one image on the client, in ms: work that tensor lanes leave to the client.
    pub client_preprocess_ms: Option<Estimate>,
    /// Whether the lanes gave the same answers.
    pub outputs: Comparison,
    /// The measurements.
    pub cells: Vec<Cell>,
    /// HTTP against gRPC in front of the same service.
    pub speedups: Vec<Speedup>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
}

/// A lane as its server describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInfo {
    /// The lane.
    #[serde(with = "lane_name")]
    pub lane: Lane,
    /// Its service.
    pub service: String,
    /// Where it was reached.
    pub url: String,
    /// Where its counters were read.
    pub metrics_url: String,
    /// The model that answered.
    pub model: String,
    /// Versions of the model, where told.
    pub model_versions: Vec<String>,
    /// Name and version of the server, where told.
    pub server: Option<String>,
    /// The execution provider that the model really runs on, where told (stock Triton does not).
    pub effective_provider: Option<String>,
    /// Why it is that one, where told.
    pub provider_reason: Option<String>,
    /// Why there are no server counters, if there are none.
    pub counters_missing: Option<String>,
}

/// How much faster gRPC is than HTTP in front of one service: p50 over HTTP divided by p50 over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// The service.
    pub service: String,
    /// Images in a request.
    pub batch: usize,
    /// Above 1 gRPC is faster.
    pub speedup: Estimate,
}

impl Report {
    /// The cell of a lane under a load; of several, the first connection policy and payload stand for it.
    pub fn cell(&self, lane: Lane, load: Load) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.lane == lane && cell.load == load)
    }

    /// Requests that failed, warm-up included.
    pub fn failed(&self) -> u64 {
        self.cells.iter().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum()
    }

    /// The speedups that the serial cells show.
    pub fn serial_speedups(&self) -> Vec<Speedup> {
        let pairs = [(Lane::OnnxHttp, Lane::OnnxGrpc), (Lane::TrtHttp, Lane::TrtGrpc)];
        let speedup = |(http, grpc): (Lane, Lane), batch| {
            let samples = |lane| Some(&self.cell(lane, Load::Serial { batch })?.samples.latency_us[..]);
            let ratio = |a: &mut [f64], b: &mut [f64]| {
                let (a, b) = (Statistic::Median.of(a)?, Statistic::Median.of(b)?);
                (b != 0.0).then(|| a / b)
            };
            let speedup = bootstrap_with(samples(http)?, samples(grpc)?, ratio, self.settings.seed)?;
            Some(Speedup { service: http.service().to_owned(), batch, speedup })
        };
        pairs
            .into_iter()
            .flat_map(|pair| self.settings.batches.iter().filter_map(move |&batch| speedup(pair, batch)))
            .collect()
    }
}

/// Writes a report in one form.
pub trait Exporter {
    /// Name of the file, e.g. `report.md`.
    fn file_name(&self) -> &'static str;

    /// The file's contents.
    ///
    /// # Errors
    /// When the report cannot be expressed in the form.
    fn export(&self, report: &Report) -> Result<String, ExportError>;
}

/// A report that cannot be expressed in a form.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report: {0}")]
pub struct ExportError(#[from] serde_json::Error);

/// All forms that a run writes.
pub fn exporters() -> [&'static dyn Exporter; 2] {
    [&Json, &Markdown]
}
