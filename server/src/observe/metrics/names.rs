//! The names and help texts of the metrics: Triton's, unless another source is named.

use std::time::Duration;

use quintet_engine::stats::StatsSnapshot;

/// A counter: its name, its help text and its value.
pub(super) type CounterOf = (&'static str, &'static str, fn(&StatsSnapshot) -> u64);

/// Counters of every model.
pub(super) const COUNTERS: [CounterOf; 3] = [
    ("nv_inference_request_success", "Number of successful inference requests, all batch sizes", |stats| stats.success),
    ("nv_inference_count", "Number of inferences performed (does not include cached requests)", |stats| {
        stats.inferences
    }),
    ("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)", |stats| {
        stats.executions
    }),
];
/// Counters of times.
pub(super) const LATENCY_COUNTERS: [CounterOf; 5] = [
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        |stats| micros(stats.request),
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        |stats| micros(stats.queue),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        |stats| micros(stats.compute_input),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        |stats| micros(stats.compute_infer),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        |stats| micros(stats.compute_output),
    ),
];
/// Counters of models with a response cache.
pub(super) const CACHE_COUNTERS: [CounterOf; 4] = [
    ("nv_cache_num_hits_per_model", "Number of cache hits per model", |stats| stats.cache_hits),
    ("nv_cache_num_misses_per_model", "Number of cache misses per model", |stats| stats.cache_misses),
    ("nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds", |stats| {
        micros(stats.cache_hit)
    }),
    ("nv_cache_miss_duration_per_model", "Total cache miss duration per model, in microseconds", |stats| {
        micros(stats.cache_miss)
    }),
];
pub(super) const FAILURES: (&str, &str) =
    ("nv_inference_request_failure", "Number of failed inference requests, all batch sizes");
pub(super) const PENDING: (&str, &str) =
    ("nv_inference_pending_request_count", "Instantaneous number of pending requests awaiting execution per-model.");
pub(super) const LOAD_SECONDS: (&str, &str) = ("nv_model_load_duration_secs", "Model load time in seconds");
/// A metric that only this server has.
pub(super) const GPU_MEMORY: (&str, &str) = (
    "quintet_model_gpu_memory_bytes",
    "GPU memory that loading and warming the model took, in bytes; approximate where models load side by side",
);
/// A metric that only this server has.
pub(super) const PROVIDER: (&str, &str) = (
    "quintet_model_provider_info",
    "Always 1: the execution provider that runs the model, and the reason if it is not the first choice",
);
/// A metric that only this server has.
pub(super) const CONNECTIONS_CLOSED: (&str, &str) =
    ("quintet_connections_closed_total", "Number of connections that the server ended before their time, by reason");
/// A metric that only this server has.
pub(super) const ANSWERS: (&str, &str) = (
    "quintet_request_summary_us",
    "Time from a request's head to its response in microseconds, by protocol: successful inference requests except those of streams",
);
/// In the order of `Distributions::record`.
pub(super) const SUMMARIES: [(&str, &str); 5] = [
    (
        "nv_inference_request_summary_us",
        "Summary of inference request duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_queue_summary_us",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_compute_input_summary_us",
        "Summary of inference compute input duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "Summary of inference compute infer duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_output_summary_us",
        "Summary of inference compute output duration in microseconds (does not include cached requests)",
    ),
];
pub(super) const FIRST_RESPONSE: (&str, &str) =
    ("nv_inference_first_response_histogram_ms", "Duration from request to first response in milliseconds");
/// Triton's bounds of [`FIRST_RESPONSE`].
pub(super) const FIRST_RESPONSE_BOUNDS_MS: &[u64] = &[100, 500, 2000, 5000];
/// In the order of `Distributions::record`. The names are those proposed for Triton (triton-inference-server/core#474).
pub(super) const PHASES: [(&str, &str); 5] = [
    (
        "nv_inference_request_duration_histogram_us",
        "Histogram of inference request duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_queue_duration_histogram_us",
        "Histogram of inference queuing duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_compute_input_duration_histogram_us",
        "Histogram of compute input duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_infer_duration_histogram_us",
        "Histogram of compute inference duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_output_duration_histogram_us",
        "Histogram of compute output duration in microseconds (does not include cached requests)",
    ),
];
/// The bounds of [`PHASES`]: those proposed for any phase there, and more between and above them.
pub(super) const PHASE_BOUNDS_US: &[u64] =
    &[100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
