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
