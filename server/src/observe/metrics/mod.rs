//! Prometheus metrics under Triton's names. The engine counts; this shows.

mod options;
mod summary;
pub(crate) mod text;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::Label;
use metrics_exporter_prometheus::LabelSet;
use metrics_util::storage::Histogram;
use parking_lot::Mutex;
use quintet_engine::{FailureReason, Model, Registry, Stage, StageTimings, stats::StatsSnapshot};
use quintet_proto::inference::ModelConfig;

pub use options::MetricsOptions;
use summary::Summary;
use text::Family;

/// `Content-Type` of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A counter: its name, its help text and where the engine keeps it.
type CounterOf = (&'static str, &'static str, fn(&StatsSnapshot) -> u64);

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
/// In the order of [`Distributions::record`].
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

/// What the series of one version of a model need besides the engine's counters.
struct Series {
    labels: LabelSet,
    /// The same with those of [`PROVIDER`].
    provider: LabelSet,
    distributions: Arc<Distributions>,
}

/// Distributions of answered requests' times, those that are asked for.
struct Distributions {
    /// In the order of [`SUMMARIES`].
    summaries: Option<[Summary; SUMMARIES.len()]>,
    /// Milliseconds.
    first_response: Option<Mutex<Histogram>>,
}

/// A model at one moment.
struct Reading {
    series: Arc<Series>,
    model: Arc<Model>,
    stats: StatsSnapshot,
}

impl ServiceMetrics {
    /// No series yet.
    pub fn new(options: MetricsOptions) -> Self {
        Self { options, models: Mutex::default() }
    }

    /// Begins a model's series, in place of an earlier one's of this name and version. Tags of its configuration are
    /// labels of all of them.
    pub fn register(&self, model: &Model, config: &ModelConfig) {
        let spec = model.spec();
        let key = (spec.name().to_owned(), spec.version());
        self.models.lock().insert(key, Arc::new(Series::new(model, config, &self.options)));
    }

    /// Forgets all versions of a model.
    pub fn forget(&self, name: &str) {
        self.models.lock().retain(|(model, _), _| model != name);
    }

    /// The text format, with what the models in service have counted until now. Metrics are sorted by name, their
    /// samples by model.
    pub fn render(&self, registry: &Registry) -> String {
        let all = self.models.lock().clone();
        let reading = |model: Arc<Model>| {
            let series = all.get(&(model.spec().name().to_owned(), model.spec().version()))?;
            Some(Reading { series: Arc::clone(series), stats: model.stats(), model })
        };
        let models: Vec<Reading> = registry.ready_models().into_iter().filter_map(reading).collect();
        let families =
            counters(&self.options, &models).into_iter().chain(gauges(&models)).chain(distributions(&models));
        // Each begins with its name.
        let mut texts: Vec<String> = families.filter_map(Family::into_text).collect();
        texts.sort_unstable();
        texts.concat()
    }
}

fn counters(options: &MetricsOptions, models: &[Reading]) -> Vec<Family> {
    let latencies = if options.counter_latencies { &LATENCY_COUNTERS[..] } else { &[] };
    let of_all = COUNTERS.iter().chain(latencies).map(|counter| (counter, false));
    let counters = of_all.chain(CACHE_COUNTERS.iter().map(|counter| (counter, true)));
    let mut families: Vec<Family> = counters
        .map(|(&(name, help, value), of_cache)| {
            let mut family = Family::new("counter", (name, help));
            let models = models.iter().filter(|reading| !of_cache || reading.model.is_cached());
            models.for_each(|reading| family.sample(&reading.series.labels, value(&reading.stats)));
            family
        })
        .collect();
    let mut failures = Family::new("counter", FAILURES);
    for Reading { series, stats, .. } in models {
        for reason in FailureReason::ALL {
            failures.labelled(&series.labels, ("reason", label(reason)), stats.failures[reason]);
        }
    }
    families.push(failures);
    families
}

fn gauges(models: &[Reading]) -> [Family; 3] {
    let [mut pending, mut load, mut provider] = [PENDING, LOAD_SECONDS, PROVIDER].map(|of| Family::new("gauge", of));
    for Reading { series, model, .. } in models {
        pending.sample(&series.labels, model.pending_requests());
        load.sample(&series.labels, model.load_time().as_secs_f64());
        provider.sample(&series.provider, 1);
    }
    [pending, load, provider]
}

fn distributions(models: &[Reading]) -> Vec<Family> {
    let now = Instant::now();
    let mut summaries = SUMMARIES.map(|summary| Family::new("summary", summary));
    let mut first_response = Family::new("histogram", FIRST_RESPONSE);
    for Series { labels, distributions, .. } in models.iter().map(|reading| &*reading.series) {
        for (family, summary) in summaries.iter_mut().zip(distributions.summaries.iter().flatten()) {
            summary.write(family, labels, now);
        }
        if let Some(histogram) = &distributions.first_response {
            let histogram = histogram.lock().clone();
            for (bound, count) in histogram.buckets() {
                first_response.part(Some("bucket"), labels, Some(("le", bound)), count);
            }
            first_response.part(Some("bucket"), labels, Some(("le", "+Inf")), histogram.count());
            first_response.totals(labels, histogram.sum(), histogram.count());
        }
    }
    summaries.into_iter().chain([first_response]).collect()
}

impl Series {
    /// Has the model report each answered request where distributions are wanted.
    fn new(model: &Model, config: &ModelConfig, options: &MetricsOptions) -> Self {
        let (spec, placement) = (model.spec(), model.placement());
        let mut labels =
            vec![Label::new("model", spec.name().to_owned()), Label::new("version", spec.version().to_string())];
        let tags: BTreeMap<_, _> = config.metric_tags.iter().collect();
        labels.extend(tags.into_iter().map(|(name, value)| Label::new(format!("_{name}"), value.clone())));
        let reason = placement.reason.clone().unwrap_or_default();
        let provider = [Label::new("provider", placement.provider.clone()), Label::new("reason", reason)];
        let distributions = Arc::new(Distributions::new(options));
        if distributions.summaries.is_some() || distributions.first_response.is_some() {
            let distributions = Arc::clone(&distributions);
            model.on_success(move |elapsed, timings| distributions.record(elapsed, timings));
        }
        Self {
            provider: text::labels(labels.iter().cloned().chain(provider).collect()),
            labels: text::labels(labels),
            distributions,
        }
    }
}

impl Distributions {
    fn new(options: &MetricsOptions) -> Self {
        let summary = |_| Summary::new(options.summary_quantiles.clone());
        let histogram = || Histogram::new(&FIRST_RESPONSE_BOUNDS_MS).map(Mutex::new);
        Self {
            summaries: options.summary_latencies.then(|| SUMMARIES.map(summary)),
            first_response: options.histogram_latencies.then(histogram).flatten(),
        }
    }

    fn record(&self, elapsed: Duration, timings: &StageTimings) {
        if let Some(histogram) = &self.first_response {
            histogram.lock().record(elapsed.as_secs_f64() * 1e3);
        }
        let Some([request, queue, compute @ ..]) = &self.summaries else { return };
        let now = Instant::now();
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
