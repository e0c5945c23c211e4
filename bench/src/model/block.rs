//! Measurements of a block or window, of a warm-up, and of a whole cell.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    connection::Traffic,
    counters::Counters,
    load::Load,
    machine::BlockMachines,
    record::{Failures, Recorder},
    variant::Variant,
};

/// What was measured in one block or window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredBlock {
    /// Start of the block, since the start of the run.
    pub start: Duration,
    /// Its elapsed time.
    pub wall: Duration,
    /// The requests completed in it, and its failures.
    pub recorder: Recorder,
    /// Latency of the request before the first counted one, which found the connection idle; `None` in windows, whose ramp
    /// has it, and for connections that are not kept.
    #[serde(default)]
    pub after_idle: Option<Duration>,
    /// Requests completed outside the window (ramp and drain); 0 for serial blocks.
    pub outside: u64,
    /// TCP connections used.
    pub connections: u64,
    /// Connections reopened within the block.
    pub reconnects: u64,
    /// CPU time of this program in the block, where known.
    pub cpu: Option<Duration>,
    /// That of its busiest thread.
    #[serde(default)]
    pub busiest_thread: Option<Duration>,
    /// The state of the server's GPUs and of the client's machine.
    #[serde(default)]
    pub machines: BlockMachines,
    /// Traffic of the connections in the block, including a window's ramp and drain.
    pub traffic: Traffic,
    /// The outcome of the schedule, in an open loop.
    pub offered: Option<Offered>,
    /// The server's counters over the block.
    pub server: Result<Counters, String>,
    /// Requests answered by the server's count, from idle to idle; `None` if not comparable.
    pub counted: Option<u64>,
}

/// Requests before the measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarmUp {
    /// How many were sent.
    pub sent: u64,
    /// How many failed.
    pub failures: Failures,
    /// Latency of the first request, in µs.
    #[serde(default)]
    pub first_us: Option<u64>,
    /// Median latency of the last group, in µs.
    #[serde(default)]
    pub last_us: Option<u64>,
    /// Whether it became steady (the medians of three groups in a row within 10 %), where that was judged.
    #[serde(default)]
    pub steady: Option<bool>,
}

impl WarmUp {
    /// Adds the warm-up from before the run was stopped, which has the first request.
    pub fn follows(&mut self, mut first: Self) {
        first.failures.merge(std::mem::take(&mut self.failures));
        self.failures = first.failures;
        self.sent += first.sent;
        self.first_us = first.first_us.or(self.first_us);
    }
}

/// Everything measured for one cell.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was measured.
    pub variant: Variant,
    /// The load.
    pub load: Load,
    /// Bytes of a request's body (mean over the photographs).
    pub request_bytes: usize,
    /// Requests before the measurement.
    pub warm_up: WarmUp,
    /// Blocks, in order.
    pub blocks: Vec<MeasuredBlock>,
}

/// The outcome of an open loop's schedule within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offered {
    /// Requests scheduled in the window.
    pub scheduled: u64,
    /// Requests completed while the window was open, regardless of their scheduled time.
    pub completed_meanwhile: u64,
    /// Requests of the schedule that were not sent before the window ended.
    pub unsent: u64,
    /// Requests that waited because --max-in-flight requests were in flight.
    pub waited: u64,
}

impl Measured {
    /// Requests sent in its blocks.
    pub fn requests(&self) -> usize {
        self.blocks.iter().map(|block| block.recorder.sent() as usize).sum()
    }
}
