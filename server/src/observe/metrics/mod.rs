//! Prometheus metrics under Triton's names. The engine counts; this shows.

mod options;
mod summary;
mod text;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;
use quintet_engine::{FailureReason, Model, ModelSpec, Registry, Stage, StageTimings, stats::StatsSnapshot};
use quintet_proto::inference::ModelConfig;

pub use options::MetricsOptions;
use summary::Summary;

/// `Content-Type` of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// A counter: its name, its help text and where the engine keeps it.
type CounterOf = (&'static str, &'static str, Read);

type Read = fn(&StatsSnapshot) -> u64;

/// Names and help texts are Triton's.
const COUNTERS: [CounterOf; 3] = [
    ("nv_inference_request_success", "Number of successful inference requests, all batch sizes", |stats| stats.success),
    ("nv_inference_count", "Number of inferences performed (does not include cached requests)", |stats| {
        stats.inferences
    }),
    ("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)", |stats| {
        stats.executions
    }),
];
const LATENCY_COUNTERS: [CounterOf; 5] = [
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
const CACHE_COUNTERS: [CounterOf; 4] = [
    ("nv_cache_num_hits_per_model", "Number of cache hits per model", |stats| stats.cache_hits),
    ("nv_cache_num_misses_per_model", "Number of cache misses per model", |stats| stats.cache_misses),
    ("nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds", |stats| {
        micros(stats.cache_hit)
    }),
    ("nv_cache_miss_duration_per_model", "Total cache miss duration per model, in microseconds", |stats| {
        micros(stats.cache_miss)
    }),
];
const FAILURES: (&str, &str) = ("nv_inference_request_failure", "Number of failed inference requests, all batch sizes");
const PENDING: (&str, &str) =
    ("nv_inference_pending_request_count", "Instantaneous number of pending requests awaiting execution per-model.");
const LOAD_SECONDS: (&str, &str) = ("nv_model_load_duration_secs", "Model load time in seconds");
/// One of ours.
const PROVIDER: (&str, &str) =
    ("quintet_model_provider_info", "Always 1: the provider that really runs the model, and why not another");
/// In the order of what [`Summaries::record`] tells.
const SUMMARIES: [(&str, &str); 5] = [
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
const FIRST_RESPONSE: (&str, &str) =
    ("nv_inference_first_response_histogram_ms", "Duration from request to first response in milliseconds");
/// Triton's bounds of [`FIRST_RESPONSE`].
const FIRST_RESPONSE_BOUNDS_MS: [f64; 4] = [100.0, 500.0, 2000.0, 5000.0];

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// What the label `reason` of [`FAILURES`] says.
fn label(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Rejected => "REJECTED",
        FailureReason::Cancelled => "CANCELED",
        FailureReason::Backend => "BACKEND",
        FailureReason::Other => "OTHER",
    }
}

/// The metrics of one service.
#[derive(Default)]
pub struct ServiceMetrics {
    options: MetricsOptions,
    models: Mutex<BTreeMap<(String, u64), Arc<Series>>>,
}

/// The series of one version of a model. It has a recorder to itself: what is unloaded goes away with it.
struct Series {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    counters: Vec<(Counter, Read)>,
    failures: Vec<(FailureReason, Counter)>,
    pending: Gauge,
    summaries: Option<Arc<Summaries>>,
}

/// Distributions of answered requests' times, in the order of [`SUMMARIES`].
struct Summaries([Summary; SUMMARIES.len()]);

impl ServiceMetrics {
    /// No series yet.
    pub fn new(options: MetricsOptions) -> Self {
        Self { options, models: Mutex::default() }
    }

    /// Makes a model's series, in the place of those of its like: they are there from its load on, at 0. Tags of
    /// its configuration are labels of all of them.
    pub fn register(&self, model: &Model, config: &ModelConfig) {
        let spec = model.spec();
        let key = (spec.name().to_owned(), spec.version());
        self.models.lock().insert(key, Arc::new(Series::new(model, config, &self.options)));
    }

    /// Forgets all versions of a model.
    pub fn forget(&self, name: &str) {
        self.models.lock().retain(|(model, _), _| model != name);
    }

    /// The text format, with what the models have counted until now.
    pub fn render(&self, registry: &Registry) -> String {
        let all = self.models.lock().clone();
        for model in registry.ready_models() {
            if let Some(series) = all.get(&(model.spec().name().to_owned(), model.spec().version())) {
                series.update(&model);
            }
        }
        let texts: Vec<_> = all.values().map(|series| series.render()).collect();
        text::merge(texts.iter().map(String::as_str))
    }
}

impl Series {
    fn new(model: &Model, config: &ModelConfig, options: &MetricsOptions) -> Self {
        let spec = model.spec();
        let tags: BTreeMap<_, _> = config.metric_tags.iter().collect();
        let labelled = || {
            let builder = PrometheusBuilder::new()
                .add_global_label("model", spec.name())
                .add_global_label("version", spec.version().to_string());
            tags.iter().fold(builder, |builder, (name, value)| builder.add_global_label(format!("_{name}"), *value))
        };
        // Both refuse an empty list only.
        let builder = labelled().set_quantiles(&options.summary_quantiles).unwrap_or_else(|_| labelled());
        let first_response = Matcher::Full(FIRST_RESPONSE.0.to_owned());
        let builder = builder.set_buckets_for_metric(first_response, &FIRST_RESPONSE_BOUNDS_MS);
        let recorder = builder.unwrap_or_else(|_| labelled()).build_recorder();
        let mut series = Self {
            handle: recorder.handle(),
            recorder,
            counters: vec![],
            failures: vec![],
            pending: Gauge::noop(),
            summaries: options.summary_latencies.then(|| Arc::new(Summaries::new(spec, &tags, options))),
        };
        series.count(&COUNTERS);
        if options.counter_latencies {
            series.count(&LATENCY_COUNTERS);
        }
        if model.is_cached() {
            series.count(&CACHE_COUNTERS);
        }
        series.recorder.describe_counter(FAILURES.0.into(), Some(Unit::Count), FAILURES.1.into());
        series.failures = FailureReason::ALL
            .map(|reason| {
                let key = Key::from_parts(FAILURES.0, vec![Label::new("reason", label(reason))]);
                (reason, series.recorder.register_counter(&key, &METADATA))
            })
            .into();
        series.pending = series.gauge(PENDING, vec![]);
        series.gauge(LOAD_SECONDS, vec![]).set(model.load_time().as_secs_f64());
        let placement = model.placement();
        let reason = placement.reason.clone().unwrap_or_default();
        let provider = vec![Label::new("provider", placement.provider.clone()), Label::new("reason", reason)];
        series.gauge(PROVIDER, provider).set(1.0);
        series.observe(model, options);
        series
    }

    fn count(&mut self, counters: &[CounterOf]) {
        for &(name, help, value) in counters {
            self.recorder.describe_counter(name.into(), Some(Unit::Count), help.into());
            self.counters.push((self.recorder.register_counter(&Key::from_name(name), &METADATA), value));
        }
    }

    fn gauge(&self, (name, help): (&'static str, &'static str), labels: Vec<Label>) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn distribution(&self, (name, help): (&'static str, &'static str)) -> Histogram {
        self.recorder.describe_histogram(name.into(), None, help.into());
        self.recorder.register_histogram(&Key::from_name(name), &METADATA)
    }

    /// Has the model tell each answered request, where distributions are wanted.
    fn observe(&self, model: &Model, options: &MetricsOptions) {
        let summaries = self.summaries.clone();
        let first_response = options.histogram_latencies.then(|| self.distribution(FIRST_RESPONSE));
        if summaries.is_none() && first_response.is_none() {
            return;
        }
        let (handle, last_upkeep) = (self.handle.clone(), Mutex::new(Instant::now()));
        model.on_success(move |elapsed, timings| {
            if let Some(summaries) = &summaries {
                summaries.record(elapsed, timings);
            }
            if let Some(histogram) = &first_response {
                histogram.record(elapsed.as_secs_f64() * 1e3);
            }
            // The exporter's observations pile up until someone looks: where nobody does, look now and then.
            if let Some(mut last) = last_upkeep.try_lock()
                && last.elapsed() > UPKEEP
            {
                *last = Instant::now();
                handle.run_upkeep();
            }
        });
    }

    fn render(&self) -> String {
        let mut text = self.handle.render();
        let now = Instant::now();
        self.summaries
            .iter()
            .flat_map(|summaries| &summaries.0)
            .for_each(|summary| text.push_str(&summary.render(now)));
        text
    }

    fn update(&self, model: &Model) {
        let stats = model.stats();
        self.counters.iter().for_each(|(counter, value)| counter.absolute(value(&stats)));
        self.failures.iter().for_each(|(reason, counter)| counter.absolute(stats.failures[*reason]));
        self.pending.set(model.pending_requests() as f64);
    }
}

/// How often observations are condensed.
const UPKEEP: Duration = Duration::from_secs(5);

impl Summaries {
    fn new(spec: &ModelSpec, tags: &BTreeMap<&String, &String>, options: &MetricsOptions) -> Self {
        let mut labels = format!("model=\"{}\",version=\"{}\"", escape(spec.name()), spec.version());
        for (name, value) in tags {
            let _ = write!(labels, ",_{name}=\"{}\"", escape(value));
        }
        Self(SUMMARIES.map(|name| Summary::new(name, labels.clone(), options.summary_quantiles.clone())))
    }

    fn record(&self, elapsed: Duration, timings: &StageTimings) {
        let now = Instant::now();
        let [request, queue, compute @ ..] = &self.0;
        request.record(elapsed, now);
        queue.record(timings[Stage::Queue], now);
        // The response cache answers without a run.
        if timings[Stage::Infer] > Duration::ZERO {
            let input = timings[Stage::Gather] + timings[Stage::CopyIn];
            let times = [input, timings[Stage::Infer], timings[Stage::CopyOut]];
            compute.iter().zip(times).for_each(|(summary, time)| summary.record(time, now));
        }
    }
}

/// A label's value in the text format.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use quintet_engine::{
        BatchPolicy, BufferPool, Cache, DataType, InferRequest, ModelSpec, OutputSet, Shape, Tensor, TensorSpec,
        VersionState, testing::Echo,
    };

    use super::*;

    fn model(name: &str) -> Model {
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(1)]);
        let policy = BatchPolicy { max_batch_size: 4, ..BatchPolicy::default() };
        let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], policy, 1, vec![]).unwrap();
        Model::start(spec, vec![Box::new(Echo::default())], vec![], BufferPool::new(1 << 20), Duration::ZERO).unwrap()
    }

    fn request() -> InferRequest {
        InferRequest {
            started: Instant::now(),
            inputs: vec![Some(Tensor::new(DataType::Fp32, Shape::new([1, 1]), Bytes::from(vec![0; 4])).unwrap())],
            rows: 1,
            outputs: OutputSet::all(1),
            output_memory: Vec::new(),
            priority: 0,
            deadline: None,
            timings: StageTimings::default(),
        }
    }

    fn every() -> MetricsOptions {
        MetricsOptions { summary_latencies: true, histogram_latencies: true, ..MetricsOptions::default() }
    }

    /// Names of the metrics that have help texts.
    fn names(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect()
    }

    #[tokio::test]
    async fn each_model_has_series_that_go_away_with_it() {
        let (metrics, registry) = (ServiceMetrics::new(MetricsOptions::default()), Registry::default());
        let tagged = ModelConfig { metric_tags: [("team".into(), "red".into())].into(), ..ModelConfig::default() };
        for (name, config) in [("a", ModelConfig::default()), ("b", tagged)] {
            let model = model(name);
            metrics.register(&model, &config);
            registry.set(name, 1, VersionState::Ready(Arc::new(model)));
        }
        registry.resolve("a", None).unwrap().infer(request()).await.unwrap();
        let text = metrics.render(&registry);
        assert!(text.contains("nv_inference_count{model=\"a\",version=\"1\"} 1\n"), "{text}");
        assert!(text.contains("nv_inference_count{model=\"b\",version=\"1\",_team=\"red\"} 0\n"), "{text}");
        assert_eq!(text.matches("# TYPE nv_inference_count counter").count(), 1, "{text}");
        for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
            let line = format!("nv_inference_request_failure{{model=\"a\",version=\"1\",reason=\"{reason}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        insta::assert_snapshot!(names(&text).join("\n"), @r"
        nv_inference_compute_infer_duration_us
        nv_inference_compute_input_duration_us
        nv_inference_compute_output_duration_us
        nv_inference_count
        nv_inference_exec_count
        nv_inference_pending_request_count
        nv_inference_queue_duration_us
        nv_inference_request_duration_us
        nv_inference_request_failure
        nv_inference_request_success
        nv_model_load_duration_secs
        quintet_model_provider_info
        ");
        metrics.forget("a");
        assert!(!metrics.render(&registry).contains("model=\"a\""));
    }

    #[tokio::test]
    async fn distributions_and_the_cache_are_counted_where_they_are_asked_for() {
        let (metrics, registry) = (ServiceMetrics::new(every()), Registry::default());
        let model = model("m").with_cache(Arc::new(Cache::new(1 << 20)));
        metrics.register(&model, &ModelConfig::default());
        registry.set("m", 1, VersionState::Ready(Arc::new(model)));
        let model = registry.resolve("m", None).unwrap();
        for _ in 0..3 {
            model.infer(request()).await.unwrap();
        }
        let text = metrics.render(&registry);
        for line in [
            "nv_inference_request_summary_us_count{model=\"m\",version=\"1\"} 3",
            "nv_inference_first_response_histogram_ms_bucket{model=\"m\",version=\"1\",le=\"100\"} 3",
            "nv_cache_num_hits_per_model{model=\"m\",version=\"1\"} 2",
            "nv_cache_num_misses_per_model{model=\"m\",version=\"1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
