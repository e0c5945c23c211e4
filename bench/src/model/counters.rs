//! A server's own counters, as Triton names and defines them.

use serde::{Deserialize, Serialize};

/// One model's counters (versions and devices summed), as Triton names and defines them:
/// the durations are cumulative over requests, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// `nv_inference_request_success`: requests answered.
    pub requests: u64,
    /// `nv_inference_request_failure`: requests refused or failed.
    pub failures: u64,
    /// `nv_inference_count`: images (a batch of n counts n).
    pub images: u64,
    /// `nv_inference_exec_count`: batches run.
    pub executions: u64,
    /// `nv_inference_request_duration_us`.
    pub request_us: u64,
    /// `nv_inference_queue_duration_us`.
    pub queue_us: u64,
    /// `nv_inference_compute_input_duration_us`.
    pub compute_input_us: u64,
    /// `nv_inference_compute_infer_duration_us`.
    pub compute_infer_us: u64,
    /// `nv_inference_compute_output_duration_us`.
    pub compute_output_us: u64,
}

impl Counters {
    /// The counts since `earlier`; `None` if a counter decreased, because the server restarted.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        self.zip(earlier, u64::checked_sub)
    }

    /// The sum of two windows.
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, |a, b| Some(a.saturating_add(b))).unwrap_or(*self)
    }

    fn zip(&self, other: &Self, op: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        Some(Self {
            requests: op(self.requests, other.requests)?,
            failures: op(self.failures, other.failures)?,
            images: op(self.images, other.images)?,
            executions: op(self.executions, other.executions)?,
            request_us: op(self.request_us, other.request_us)?,
            queue_us: op(self.queue_us, other.queue_us)?,
            compute_input_us: op(self.compute_input_us, other.compute_input_us)?,
            compute_infer_us: op(self.compute_infer_us, other.compute_infer_us)?,
            compute_output_us: op(self.compute_output_us, other.compute_output_us)?,
        })
    }
}
