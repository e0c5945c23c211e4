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
    machine::BlockMachines,
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
    /// The connection policy.
    #[serde(default)]
    pub connection: Policy,
    /// The form of the images; `None` (null) in older reports.
    #[serde(default)]
    pub payload: Option<Encoding>,
    /// The transport of the tensors.
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
    /// Elapsed measured time, in seconds.
    pub wall_s: f64,
    /// CPU time of this program while measuring, in seconds, where known.
    #[serde(default)]
    pub client_cpu_s: Option<f64>,
    /// That of the busiest thread of each block.
    #[serde(default)]
    pub client_busiest_thread_s: Option<f64>,
    /// The state of the server's GPUs and of the client's machine, for each block; empty if nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<BlockMachines>,
    /// Completed images divided by measured time.
    pub images_per_s: Option<Estimate>,
    /// Completion minus send.
    pub latency_ms: Option<Latency>,
    /// p50 with the client's preprocessing of the batch added; for tensor lanes.
    pub charged_p50_ms: Option<Estimate>,
    /// Bytes of a request's body.
    pub request_bytes: usize,
    /// Bytes of a response's body.
    pub response_bytes: usize,
    /// TCP connections used at once.
    pub connections: u64,
    /// Connections reopened while measuring.
    pub reconnects: u64,
    /// Traffic of the connections while measuring, including a window's ramp and drain.
    #[serde(default)]
    pub traffic: Traffic,
    /// When the steps of a request were reached, seen from the client.
    #[serde(default)]
    pub times: Option<Times>,
    /// What a request costs that finds its connection idle; for serial loads on kept connections.
    #[serde(default)]
    pub after_idle: Option<AfterIdle>,
    /// The figures of an open loop.
    #[serde(default)]
    pub open: Option<OpenLoopFigures>,
    /// The server's view of the measured blocks whose counters could be read.
    pub server: Option<ServerSide>,
    /// The reason if there are no server times.
    pub server_missing: Option<String>,
    /// The mean latency in parts.
    pub waterfall: Option<Waterfall>,
    /// Which samples belong to which block.
    pub blocks: Vec<BlockSpan>,
    /// Every measured request; stored in a separate file.
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
    /// A value that the true 95th percentile does not exceed with 99 % probability; `None` (null) with fewer than 130
    /// samples.
    #[serde(default)]
    pub p95_at_most: Option<f64>,
    /// The same for the 99th percentile, with at least 662 samples.
    #[serde(default)]
    pub p99_at_most: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// The server's counters over the measured window; times are means for each request, in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSide {
    /// Requests answered in the window.
    pub requests: u64,
    /// Images in them.
    pub images: u64,
    /// Batches run.
    pub executions: u64,
    /// Total time in the server.
    pub request_ms: f64,
    /// Waiting for an instance or for other requests of the batch.
    pub queue_ms: f64,
    /// Copying inputs to the device.
    pub compute_input_ms: f64,
    /// Running the model.
    pub compute_infer_ms: f64,
    /// Copying outputs from the device.
    pub compute_output_ms: f64,
    /// Requests answered by the client's count, from idle to idle.
    pub expected: u64,
    /// The same by the server's count; `None` (null) if not comparable.
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
    /// Elapsed time, in seconds.
    pub wall_s: f64,
    /// Requests completed while an open loop's window was open, whenever they were scheduled; `None` (null) for other loads.
    #[serde(default)]
    pub completed: Option<u64>,
}

/// When the steps of a request were reached, in ms since it was sent, seen from the client: medians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// The connection was open.
    pub connect_ms: Estimate,
    /// Length of the TLS handshake, which `connect_ms` includes; `None` (null) without TLS.
    #[serde(default)]
    pub tls_ms: Option<Estimate>,
    /// The response's head arrived.
    pub first_byte_ms: Estimate,
    /// The response was complete.
    pub last_byte_ms: Estimate,
}

/// The requests that found their connection idle: the first of each block, not counted elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AfterIdle {
    /// Their median latency, in ms.
    pub latency_ms: Estimate,
    /// How much longer they took than the other requests of their block, in ms (Hodges and Lehmann's estimate).
    pub extra_ms: Estimate,
}

/// The figures of an open loop; the cell's latency counts from the intended send time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenLoop")]
pub struct OpenLoopFigures {
    /// Scheduled requests per second.
    pub offered_per_s: f64,
    /// Requests completed per second while the window was open.
    pub achieved_per_s: f64,
    /// The outcome of the schedule.
    pub schedule: Offered,
    /// Completion minus send: what a closed loop would call latency.
    pub service_ms: Option<Latency>,
    /// How much later than intended requests were sent, in ms: median, 99th percentile and maximum.
    pub lag_ms: Option<[f64; 3]>,
}

impl Cell {
    /// The server's work on a request, in ms. Reading the body is not included if it is known separately, because it
    /// waits for the link.
    pub fn server_ms(&self) -> Option<f64> {
        let staged = self.waterfall.as_ref().and_then(|w| Some(w.at(Location::Server)? - w.ms(Part::Receive)?));
        staged.or_else(|| self.server.as_ref().map(|server| server.request_ms))
    }
}
