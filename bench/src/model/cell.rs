//! A cell of the report: one lane under one load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    block::{Offered, WarmUp},
    connection::{Policy, Traffic},
    encoding::Encoding,
    estimate::{Estimate, Percentile},
    lane::Lane,
    load::Load,
    part::{Location, Part},
    record::Failures,
    samples::Samples,
    transport::Transport,
    waterfall::Waterfall,
};

/// One lane under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The lane.
    pub lane: Lane,
    /// The load.
    pub load: Load,
    /// Whose connections the requests went out on.
    #[serde(default)]
    pub connection: Policy,
    /// The form of the images; in reports of before there was a choice, none.
    #[serde(default)]
    pub payload: Option<Encoding>,
    /// The way of the tensors.
    #[serde(default)]
    pub transport: Transport,
    /// Requests sent: completed, failed, abandoned, and completed outside the window.
    pub sent: u64,
    /// Requests completed and measured.
    pub completed: u64,
    /// Requests completed in the ramp or after the window: not measured.
    pub outside_window: u64,
    /// Requests given up in flight at an interrupt.
    pub abandoned: u64,
    /// Requests that failed.
    pub failures: Failures,
    /// Requests before the measurement.
    pub warm_up: WarmUp,
    /// Measured time on the clock, in seconds.
    pub wall_s: f64,
    /// CPU time of this program meanwhile, in seconds, where known.
    #[serde(default)]
    pub client_cpu_s: Option<f64>,
    /// Completed images by measured time.
    pub images_per_s: Option<Estimate>,
    /// Completion minus send.
    pub latency_ms: Option<Latency>,
    /// p50 with the client's preprocessing of the batch added; for tensor lanes.
    pub charged_p50_ms: Option<Estimate>,
    /// Bytes of a request's body.
    pub request_bytes: usize,
    /// Bytes of an answer's body.
    pub response_bytes: usize,
    /// TCP connections used at a time.
    pub connections: u64,
    /// Connections opened anew while measuring.
    pub reconnects: u64,
    /// What the connections carried while measuring, a window's ramp and drain included.
    #[serde(default)]
    pub traffic: Traffic,
    /// How a request went on, seen from the client.
    #[serde(default)]
    pub times: Option<Times>,
    /// What an open loop is about.
    #[serde(default)]
    pub open: Option<OpenLoopFigures>,
    /// The server's view of the measured window.
    pub server: Option<ServerSide>,
    /// Why there is none.
    pub server_missing: Option<String>,
    /// Where the mean latency goes.
    pub waterfall: Option<Waterfall>,
    /// Which samples belong to which block.
    pub blocks: Vec<BlockSpan>,
    /// Every measured request; in a file of its own.
    #[serde(skip)]
    pub samples: Samples,
    /// Filled buckets of the latency histogram: upper bound in µs, count.
    pub histogram_us: Vec<(f64, u64)>,
}

/// Latency statistics in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Mean.
    pub mean: Estimate,
    /// Median.
    pub p50: Estimate,
    /// 95th percentile.
    pub p95: Percentile,
    /// 99th percentile.
    pub p99: Percentile,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// What the server's counters say about the measured window; times are means for each request, in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSide {
    /// Requests answered in the window.
    pub requests: u64,
    /// Images in them.
    pub images: u64,
    /// Batches run.
    pub executions: u64,
    /// The whole stay in the server.
    pub request_ms: f64,
    /// Waiting for an instance or for batch mates.
    pub queue_ms: f64,
    /// Inputs to the device.
    pub compute_input_ms: f64,
    /// The model.
    pub compute_infer_ms: f64,
    /// Outputs from the device.
    pub compute_output_ms: f64,
    /// Requests that the client saw answered, idle to idle.
    pub expected: u64,
    /// Requests that the server counted meanwhile; `None` when not comparable.
    pub counted: Option<u64>,
}

/// A contiguous run of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Block")]
pub struct BlockSpan {
    /// Start, in seconds since the start of the run.
    pub start_s: f64,
    /// Index of its first sample.
    pub first: usize,
    /// Number of samples.
    pub samples: usize,
    /// Length on the clock, in seconds.
    pub wall_s: f64,
}

/// How a request went on since it was sent, seen from the client: medians in ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// There was a connection.
    pub connect_ms: Estimate,
    /// The TLS handshake, which is a part of that; `None` (null) where TLS is not spoken.
    #[serde(default)]
    pub tls_ms: Option<Estimate>,
    /// The head of the answer was there.
    pub first_byte_ms: Estimate,
    /// The answer was complete.
    pub last_byte_ms: Estimate,
}

/// What an open loop is about; the cell's latency is from the intended time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenLoop")]
pub struct OpenLoopFigures {
    /// Requests per second that the schedule had.
    pub offered_per_s: f64,
    /// Requests per second that were completed meanwhile.
    pub achieved_per_s: f64,
    /// What became of the schedule.
    pub schedule: Offered,
    /// Completion minus send: what a closed loop would call latency.
    pub service_ms: Option<Latency>,
    /// How much later than intended requests were sent, in ms: median, 99th percentile and most.
    pub lag_ms: Option<[f64; 3]>,
}

impl Cell {
    /// The server's work on a request in ms; reading the body goes at the link's pace and does not count, where it is
    /// told apart.
    pub fn server_ms(&self) -> Option<f64> {
        let staged = self.waterfall.as_ref().and_then(|w| Some(w.at(Location::Server)? - w.ms(Part::Receive)?));
        staged.or_else(|| self.server.as_ref().map(|server| server.request_ms))
    }
}
