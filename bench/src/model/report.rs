//! The report: all results of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    cell::Cell,
    connection::{Policy, TlsVersion},
    difference::Difference,
    encoding::Encoding,
    environment::Environment,
    estimate::Estimate,
    hypothesis::Finding,
    lane::Lane,
    load::Load,
    metric::Metric,
    outputs::Comparison,
    settings::Settings,
    transport::Transport,
    warning::Warning,
};

/// Version of the JSON form. Fields may be added under one version; none changes its meaning.
pub const SCHEMA: &str = "quintet-report/1";

/// A lane as its server describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaneInfo {
    /// The lane.
    pub lane: Lane,
    /// Its service.
    pub service: String,
    /// Where it was reached.
    pub url: String,
    /// Where its counters were read.
    pub metrics_url: String,
    /// The model that answered.
    pub model: String,
    /// Versions of the model, where known.
    pub model_versions: Vec<String>,
    /// Name and version of the server, where known.
    pub server: Option<String>,
    /// The execution provider that the model runs on, where known (stock Triton does not say).
    pub effective_provider: Option<String>,
    /// The reason for that provider, where known.
    pub provider_reason: Option<String>,
    /// `max_queue_delay_microseconds` of the model's batcher, where known.
    #[serde(default)]
    pub max_queue_delay_us: Option<u64>,
    /// The version of TLS that was spoken with it, if it was.
    #[serde(default)]
    pub tls: Option<TlsVersion>,
    /// Why there are no server counters, if there are none.
    pub counters_missing: Option<String>,
}

/// How much faster gRPC is than HTTP in front of one service: p50 over HTTP divided by p50 over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speedup {
    /// The service.
    pub service: String,
    /// Images in a request.
    pub batch: usize,
    /// Above 1 gRPC is faster.
    pub speedup: Estimate,
}

/// Two lanes under one load, by the metric that the load is about: p50 one after the other, throughput together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneDifference {
    /// The load.
    pub load: Load,
    /// Whose connections both lanes' requests went out on.
    #[serde(default)]
    pub connection: Policy,
    /// The forms of both lanes' images.
    #[serde(default)]
    pub payloads: [Option<Encoding>; 2],
    /// The ways of both lanes' tensors.
    #[serde(default)]
    pub transports: [Transport; 2],
    /// What is compared.
    pub metric: Metric,
    /// One lane.
    pub a: Lane,
    /// The other.
    pub b: Lane,
    /// `a` minus `b`.
    #[serde(flatten)]
    pub difference: Difference,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// When the run began, in UTC (`YYYYMMDDTHHMMSSZ`).
    pub started_at: String,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// When it went on after it had been stopped, in UTC.
    #[serde(default)]
    pub resumed_at: Vec<String>,
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
    /// Every pair of lanes, under every load.
    #[serde(default)]
    pub differences: Vec<LaneDifference>,
    /// HTTP against gRPC in front of the same service.
    pub speedups: Vec<Speedup>,
    /// The study's hypotheses and the user's own, judged.
    #[serde(default)]
    pub hypotheses: Vec<Finding>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
}

/// A photograph as the report lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhotographInfo {
    /// File name.
    pub name: String,
    /// Length of the file in bytes.
    pub bytes: usize,
}

impl Report {
    /// The cells that stand for their lanes: of several under one load, the first.
    pub fn plain_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| self.cell(cell.lane, cell.load).is_some_and(|first| std::ptr::eq(first, *cell)))
    }

    /// The cell of a lane under a load; of several, the first connection policy and payload stand for it.
    pub fn cell(&self, lane: Lane, load: Load) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.lane == lane && cell.load == load)
    }

    /// Requests that failed, warm-up included.
    pub fn failed(&self) -> u64 {
        self.cells.iter().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum()
    }
}
