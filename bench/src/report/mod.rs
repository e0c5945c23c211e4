//! The report: everything a run found out, and the exporters that write it down.

pub mod axes;
mod csv;
mod explained;
mod files;
pub(crate) mod html;
mod json;
pub(crate) mod markdown;
pub mod samples;
pub mod schema;
pub(crate) mod svg;
pub(crate) mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::csv::Csv;
pub use crate::analysis::cell::{Block, Cell, Measured, MeasuredBlock, WarmUp};
pub use files::{ReadError, exporters};
pub use html::Html;
pub use json::Json;
pub use markdown::Markdown;
pub(crate) use markdown::{explained, table, warning_list};
pub use samples::Samples;
pub(crate) use tables::{NOTHING, label};

use crate::{
    analysis::{
        checks::{self, Warning},
        claims::{self, Finding, difference},
        metric::Metric,
        outputs::Comparison,
        pairing::Difference,
        stats::{Estimate, Statistic},
    },
    client::{Policy, TlsVersion, payload::PhotographInfo},
    model::{encoding::Encoding, lane::Lane, settings::Settings, transport::Transport},
    run::{environment::Environment, plan::Load},
};

/// Version of the JSON form. Fields may be added under one version; none changes its meaning.
pub const SCHEMA: &str = "quintet-report/1";

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
    /// Versions of the model, where told.
    pub model_versions: Vec<String>,
    /// Name and version of the server, where told.
    pub server: Option<String>,
    /// The execution provider that the model really runs on, where told (stock Triton does not).
    pub effective_provider: Option<String>,
    /// Why it is that one, where told.
    pub provider_reason: Option<String>,
    /// The delay, in µs, up to which the model's batcher makes requests wait for others, where told.
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

impl Report {
    /// Works out what the cells mean; the samples must be there.
    pub fn conclude(&mut self) {
        self.differences = self.lane_differences();
        self.speedups = self.serial_speedups();
        self.hypotheses = claims::judge(self);
        self.warnings = checks::judge(self);
    }

    fn lane_differences(&self) -> Vec<LaneDifference> {
        let mut differences = Vec::new();
        for (i, a) in self.cells.iter().enumerate() {
            for b in self.cells[i + 1..].iter().filter(|b| self.comparable(a, b)) {
                let (a, b) = if a.lane < b.lane { (a, b) } else { (b, a) };
                let metric = match a.load {
                    Load::Serial { .. } | Load::Open { .. } => Metric::Latency(Statistic::Median),
                    Load::Concurrent { .. } => Metric::Throughput,
                };
                let difference = difference(a, b, metric, 1.0, self.settings.seed);
                differences.extend(difference.map(|difference| LaneDifference {
                    load: a.load,
                    connection: a.connection,
                    payloads: [a.payload, b.payload],
                    transports: [a.transport, b.transport],
                    metric,
                    a: a.lane,
                    b: b.lane,
                    difference,
                }));
            }
        }
        differences.sort_by_key(|difference| (difference.load, difference.a, difference.b));
        differences
    }

    /// Whether two cells differ by their lanes alone, or are the same lane of two servers: form and way of the
    /// images are the same, or each lane's first.
    fn comparable(&self, a: &Cell, b: &Cell) -> bool {
        let first = |cell: &Cell| {
            let same = |c: &&Cell| (c.lane, c.load, c.connection) == (cell.lane, cell.load, cell.connection);
            self.cells
                .iter()
                .find(same)
                .is_some_and(|first| (first.payload, first.transport) == (cell.payload, cell.transport))
        };
        a.lane != b.lane
            && (a.lane.peer == b.lane.peer || a.lane.kind == b.lane.kind)
            && (a.load, a.connection) == (b.load, b.connection)
            && ((a.payload, a.transport) == (b.payload, b.transport) || first(a) && first(b))
    }

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

    /// The speedups that the serial cells show, paired like every difference.
    fn serial_speedups(&self) -> Vec<Speedup> {
        let pairs = [(Lane::ONNX_HTTP, Lane::ONNX_GRPC), (Lane::TRT_HTTP, Lane::TRT_GRPC)];
        let speedup = |(http, grpc): (Lane, Lane), batch| {
            let load = Load::Serial { batch };
            let found = self.differences.iter().find(|d| (d.a, d.b, d.load) == (http, grpc, load))?;
            Some(Speedup { service: http.service().to_owned(), batch, speedup: found.difference.ratio? })
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
pub enum ExportError {
    /// Not as JSON.
    #[error("cannot write the report: {0}")]
    Json(#[from] serde_json::Error),
    /// Not as CSV.
    #[error("cannot write the report: {0}")]
    Csv(#[from] ::csv::Error),
    /// Not its samples.
    #[error("cannot write the report: {0}")]
    Samples(#[from] samples::SamplesError),
}
