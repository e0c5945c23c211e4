//! The report: all results of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    capacity::Capacity,
    cell::Cell,
    connection::{Policy, TlsVersion},
    difference::Difference,
    encoding::{Encoding, Form},
    environment::Environment,
    estimate::Estimate,
    hypothesis::Finding,
    lane::Lane,
    load::Load,
    machine::Machine,
    metric::Metric,
    outputs::Comparison,
    scenario::ScenarioResults,
    settings::Settings,
    transport::Transport,
    warning::Warning,
};

/// Version of the JSON format. A version may gain fields, but no field changes its meaning.
pub const SCHEMA: &str = "quintet-report/1";

/// A lane as its server describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaneInfo {
    /// The lane.
    pub lane: Lane,
    /// Its service.
    pub service: String,
    /// Its address.
    pub url: String,
    /// The address of its counters.
    pub metrics_url: String,
    /// The model that answered.
    pub model: String,
    /// Versions of the model, where known.
    pub model_versions: Vec<String>,
    /// Name and version of the server, where known.
    pub server: Option<String>,
    /// The execution provider that the model runs on, where known (stock Triton does not say).
    pub effective_provider: Option<String>,
    /// The precision that the server states, if it is lower than the model's own.
    #[serde(default)]
    pub precision: Option<String>,
    /// The reason for that provider, where known.
    pub provider_reason: Option<String>,
    /// The source of the model's weights as its file states it: `seed 0` if they are random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// `max_queue_delay_microseconds` of the model's batcher, where known.
    #[serde(default)]
    pub max_queue_delay_us: Option<u64>,
    /// The TLS version of its connections; `None` (null) without TLS.
    #[serde(default)]
    pub tls: Option<TlsVersion>,
    /// What runs the model.
    #[serde(default)]
    pub machine: Machine,
    /// The model's inputs, e.g. `image FP32 [-1,3,224,224]`, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The model's outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// The reason if there are no server counters.
    pub counters_missing: Option<String>,
}

/// How much faster gRPC is than HTTP for one service: p50 over HTTP divided by p50 over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speedup {
    /// The service.
    pub service: String,
    /// Images in a request.
    pub batch: usize,
    /// Above 1, gRPC is faster.
    pub speedup: Estimate,
}

/// The difference of two lanes under one load: of throughput for a concurrent load, of p50 for others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneDifference {
    /// The load.
    pub load: Load,
    /// The connection policy of both lanes.
    #[serde(default)]
    pub connection: Policy,
    /// The payloads of both lanes.
    #[serde(default)]
    pub payloads: [Option<Encoding>; 2],
    /// The transports of both lanes.
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
    /// When it was resumed, in UTC.
    #[serde(default)]
    pub resumed_at: Vec<String>,
    /// The settings of the run.
    pub settings: Settings,
    /// The client's machine and program.
    pub environment: Environment,
    /// The lanes as their servers describe them.
    pub lanes: Vec<LaneInfo>,
    /// The photographs sent.
    pub photographs: Vec<PhotographInfo>,
    /// Preprocessing of one image on the client, in ms: work that tensor lanes leave to the client.
    pub client_preprocess_ms: Option<Estimate>,
    /// Resizing one image on the client and encoding it as JPEG, in ms, if such images are sent (`jpeg-224`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_resize_ms: Option<Estimate>,
    /// The comparison of the lanes' outputs.
    pub outputs: Comparison,
    /// The measurements.
    pub cells: Vec<Cell>,
    /// How far each lane's throughput follows its load, where several loads of one kind were measured.
    #[serde(default)]
    pub capacities: Vec<Capacity>,
    /// The results of a scenario of MLPerf, if one was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<ScenarioResults>,
    /// The differences of every pair of lanes under every load.
    #[serde(default)]
    pub differences: Vec<LaneDifference>,
    /// gRPC's speedup over HTTP for the same service.
    pub speedups: Vec<Speedup>,
    /// Verdicts on the study's hypotheses and the user's own.
    #[serde(default)]
    pub hypotheses: Vec<Finding>,
    /// Reasons to distrust figures.
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
    /// The cells that represent their lanes: the first of several under one load.
    pub fn plain_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| self.cell(cell.lane, cell.load).is_some_and(|first| std::ptr::eq(first, *cell)))
    }

    /// The cell of a lane under a load; the first if there are several variants.
    pub fn cell(&self, lane: Lane, load: Load) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.lane == lane && cell.load == load)
    }

    /// The client's work on one image of a payload before it is sent, in ms; `None` if the file is sent as it is.
    pub fn client_work_ms(&self, payload: Encoding) -> Option<Estimate> {
        match payload {
            Encoding::Jpeg224 => self.client_resize_ms,
            _ if payload.form() == Form::File => None,
            _ => self.client_preprocess_ms,
        }
    }

    /// Requests that failed, warm-up included.
    pub fn failed(&self) -> u64 {
        self.cells.iter().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum()
    }
}
