//! What happened to a model's requests: exact counters, read by metrics and statistics alike.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::ErrorKind,
    request::{Stage, StageTimings},
};

/// Why a request failed, as `nv_inference_request_failure` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// Refused: the queue was full or its time ran out in it.
    Rejected,
    /// The client went away.
    Canceled,
    /// The model's run failed.
    Backend,
    /// Anything else.
    Other,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

impl From<ErrorKind> for FailureReason {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::QueueFull | ErrorKind::DeadlineExceeded => Self::Rejected,
            ErrorKind::Cancelled => Self::Canceled,
            ErrorKind::Internal => Self::Backend,
            _ => Self::Other,
        }
    }
}

/// The counters of one model. They only grow.
#[derive(Debug, Default)]
pub struct ModelStats {
    success: AtomicU64,
    failures: [AtomicU64; FailureReason::ALL.len()],
    inferences: AtomicU64,
    executions: AtomicU64,
    request_ns: AtomicU64,
    queue_ns: AtomicU64,
    compute_input_ns: AtomicU64,
    compute_infer_ns: AtomicU64,
    compute_output_ns: AtomicU64,
    last_inference_ms: AtomicU64,
}

/// A reading of [`ModelStats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests answered.
    pub success: u64,
    /// Requests failed, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Rows inferred.
    pub inferences: u64,
    /// Runs of the model.
    pub executions: u64,
    /// Time of answered requests in the server, first byte to answer.
    pub request: Duration,
    /// Of that, in the queue.
    pub queue: Duration,
    /// Of that, gathering and copying in.
    pub compute_input: Duration,
    /// Of that, in the model's run.
    pub compute_infer: Duration,
    /// Of that, copying out.
    pub compute_output: Duration,
    /// When the last request was answered, in milliseconds since the epoch; 0 if none was.
    pub last_inference_ms: u64,
}

fn add(counter: &AtomicU64, duration: Duration) {
    counter.fetch_add(duration.as_nanos() as u64, Relaxed);
}

impl ModelStats {
    /// A request was answered with `rows` rows, `elapsed` after its first byte.
    pub fn succeeded(&self, rows: usize, elapsed: Duration, timings: &StageTimings) {
        self.success.fetch_add(1, Relaxed);
        self.inferences.fetch_add(rows as u64, Relaxed);
        add(&self.request_ns, elapsed);
        add(&self.queue_ns, timings[Stage::Queue]);
        add(&self.compute_input_ns, timings[Stage::Gather] + timings[Stage::CopyIn]);
        add(&self.compute_infer_ns, timings[Stage::Infer]);
        add(&self.compute_output_ns, timings[Stage::CopyOut]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms.store(now.as_millis() as u64, Relaxed);
    }

    /// A request failed.
    pub fn failed(&self, kind: ErrorKind) {
        self.failures[FailureReason::from(kind) as usize].fetch_add(1, Relaxed);
    }

    /// The model was run once.
    pub fn executed(&self) {
        self.executions.fetch_add(1, Relaxed);
    }

    /// Reads the counters.
    pub fn snapshot(&self) -> StatsSnapshot {
        let duration = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        StatsSnapshot {
            success: self.success.load(Relaxed),
            failures: FailureReason::ALL
                .map(|reason| (reason.label(), self.failures[reason as usize].load(Relaxed)))
                .to_vec(),
            inferences: self.inferences.load(Relaxed),
            executions: self.executions.load(Relaxed),
            request: duration(&self.request_ns),
            queue: duration(&self.queue_ns),
            compute_input: duration(&self.compute_input_ns),
            compute_infer: duration(&self.compute_infer_ns),
            compute_output: duration(&self.compute_output_ns),
            last_inference_ms: self.last_inference_ms.load(Relaxed),
        }
    }
}
