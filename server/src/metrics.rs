//! Prometheus metrics under Triton's names. The engine counts; this shows.

use std::{collections::HashMap, sync::Arc};

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;
use quintet_engine::{Model, Registry};

/// `Content-Type` of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Names, types and help texts: Triton's, and one of ours.
const COUNTERS: [(&str, &str); 9] = [
    ("nv_inference_request_success", "Number of successful inference requests, all batch sizes"),
    ("nv_inference_request_failure", "Number of failed inference requests, all batch sizes"),
    ("nv_inference_count", "Number of inferences performed (does not include cached requests)"),
    ("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)"),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
    ),
];
const PENDING: (&str, &str) =
    ("nv_inference_pending_request_count", "Instantaneous number of pending requests awaiting execution per-model.");
const LOAD_SECONDS: (&str, &str) = ("nv_model_load_duration_secs", "Model load time in seconds");
const PROVIDER: (&str, &str) =
    ("quintet_model_provider_info", "Always 1: the provider that really runs the model, and why not another");

/// The metrics of one service.
pub struct ServiceMetrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    models: Mutex<HashMap<(String, u64), Arc<Series>>>,
}

/// The series of one version of a model, in the order of [`COUNTERS`] without the failures.
struct Series {
    counters: Vec<Counter>,
    failures: Vec<Counter>,
    pending: Gauge,
}

impl Default for ServiceMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceMetrics {
    /// No series yet.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, help) in COUNTERS {
            recorder.describe_counter(name.into(), Some(Unit::Count), help.into());
        }
        for (name, help) in [PENDING, LOAD_SECONDS, PROVIDER] {
            recorder.describe_gauge(name.into(), None, help.into());
        }
        Self { handle: recorder.handle(), recorder, models: Mutex::default() }
    }

    /// Makes a model's series: they are there from its load on, at 0.
    pub fn register(&self, model: &Model) {
        let spec = model.spec();
        let labels = [Label::new("model", spec.name().to_owned()), Label::new("version", spec.version().to_string())];
        let key = |name: &'static str, more: &[(&'static str, String)]| {
            let more = more.iter().map(|(name, value)| Label::new(*name, value.clone()));
            Key::from_parts(name, labels.iter().cloned().chain(more).collect::<Vec<_>>())
        };
        let counter = |key: Key| self.recorder.register_counter(&key, &METADATA);
        let gauge = |key: Key| self.recorder.register_gauge(&key, &METADATA);
        let [(success, _), (failure, _), others @ ..] = COUNTERS;
        let counters = [success].into_iter().chain(others.map(|(name, _)| name));
        let failures = model
            .stats()
            .failures
            .into_iter()
            .map(|(reason, _)| counter(key(failure, &[("reason", reason.to_owned())])));
        let series = Series {
            counters: counters.map(|name| counter(key(name, &[]))).collect(),
            failures: failures.collect(),
            pending: gauge(key(PENDING.0, &[])),
        };
        gauge(key(LOAD_SECONDS.0, &[])).set(model.load_time().as_secs_f64());
        let placement = model.placement();
        let reason = placement.reason.clone().unwrap_or_default();
        gauge(key(PROVIDER.0, &[("provider", placement.provider.clone()), ("reason", reason)])).set(1.0);
        self.models.lock().insert((spec.name().to_owned(), spec.version()), Arc::new(series));
    }

    /// The text format, with what the models have counted until now.
    pub fn render(&self, registry: &Registry) -> String {
        for model in registry.ready_models() {
            let key = (model.spec().name().to_owned(), model.spec().version());
            let Some(series) = self.models.lock().get(&key).cloned() else { continue };
            let stats = model.stats();
            let micros = |duration: std::time::Duration| duration.as_micros() as u64;
            let values = [
                stats.success,
                stats.inferences,
                stats.executions,
                micros(stats.request),
                micros(stats.queue),
                micros(stats.compute_input),
                micros(stats.compute_infer),
                micros(stats.compute_output),
            ];
            series.counters.iter().zip(values).for_each(|(counter, value)| counter.absolute(value));
            series.failures.iter().zip(stats.failures).for_each(|(counter, (_, value))| counter.absolute(value));
            series.pending.set(model.pending_requests() as f64);
        }
        self.handle.run_upkeep();
        self.handle.render()
    }
}
