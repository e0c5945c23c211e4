//! Prometheus metrics of a service under Triton's names, from the engine's counters.

mod answers;
mod connections;
mod format;
mod histogram;
mod names;
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
use parking_lot::Mutex;
use quintet_engine::{FailureReason, GpuMemory, Model, Registry, Stage, StageTimings, stats::StatsSnapshot};
use quintet_proto::inference::ModelConfig;

pub use answers::{AnswerTimes, Protocol};
pub use connections::{Closed, ConnectionCounters};
pub use format::Format;
use histogram::Histogram;
use names::{
    CACHE_COUNTERS, COUNTERS, FAILURES, FIRST_RESPONSE, FIRST_RESPONSE_BOUNDS_MS, GPU_MEMORY, LATENCY_COUNTERS,
    LOAD_SECONDS, PENDING, PHASE_BOUNDS_US, PHASES, PROVIDER, SUMMARIES,
};
pub use options::MetricsOptions;
use summary::Summary;
use text::Family;

/// The value of the label `reason` of [`FAILURES`].
fn reason_label(reason: FailureReason) -> &'static str {
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
    connections: Arc<ConnectionCounters>,
    answers: AnswerTimes,
}

/// The labels and distributions of one version of a model.
struct Series {
    labels: LabelSet,
    /// The same labels with those of [`PROVIDER`].
    provider: LabelSet,
    distributions: Arc<Distributions>,
}

/// Distributions of the times of answered requests, if enabled.
struct Distributions {
    /// In the order of [`SUMMARIES`].
    summaries: Option<[Summary; SUMMARIES.len()]>,
    /// In the order of [`PHASES`].
    phases: Option<[Histogram; PHASES.len()]>,
    first_response: Option<Histogram>,
}

/// The values of a model at one time.
struct Reading {
    series: Arc<Series>,
    model: Arc<Model>,
    stats: StatsSnapshot,
}

impl ServiceMetrics {
    /// Metrics without series.
    pub fn new(options: MetricsOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Adds the series of a model, replacing those of an earlier one with this name and version. The metric tags of its
    /// configuration become labels of all series.
    pub fn register(&self, model: &Model, config: &ModelConfig) {
        let spec = model.spec();
        let key = (spec.name().to_owned(), spec.version());
        self.models.lock().insert(key, Arc::new(Series::new(model, config, &self.options)));
    }

    /// The counters of connections that were ended.
    pub fn connections(&self) -> &Arc<ConnectionCounters> {
        &self.connections
    }

    /// The times of answered requests.
    pub fn answers(&self) -> &AnswerTimes {
        &self.answers
    }

    /// Removes all versions of a model.
    pub fn forget(&self, name: &str) {
        self.models.lock().retain(|(model, _), _| model != name);
    }

    /// The current values of the models in service in this format. Metrics are sorted by name, their samples by
    /// model.
    pub fn render(&self, registry: &Registry, format: Format) -> String {
        let all = self.models.lock().clone();
        let reading = |model: Arc<Model>| {
            let series = all.get(&(model.spec().name().to_owned(), model.spec().version()))?;
            Some(Reading { series: Arc::clone(series), stats: model.stats(), model })
        };
        let models: Vec<Reading> = registry.ready_models().into_iter().filter_map(reading).collect();
        let families = counters(&self.options, &models, format).into_iter().chain(gauges(&models, format));
        let families = families.chain(distributions(&models, format));
        let families = families.chain([self.connections.family(format), self.answers.family(format, Instant::now())]);
        // Each text starts with the metric's name.
        let mut texts: Vec<String> = families.filter_map(Family::into_text).collect();
        texts.sort_unstable();
        texts.concat()
    }
}

fn counters(options: &MetricsOptions, models: &[Reading], format: Format) -> Vec<Family> {
    let latencies = if options.counter_latencies { &LATENCY_COUNTERS[..] } else { &[] };
    let of_all = COUNTERS.iter().chain(latencies).map(|counter| (counter, false));
    let counters = of_all.chain(CACHE_COUNTERS.iter().map(|counter| (counter, true)));
    let mut families: Vec<Family> = counters
        .map(|(&(name, help, value), of_cache)| {
            let mut family = Family::new(format, "counter", (name, help));
            let models = models.iter().filter(|reading| !of_cache || reading.model.is_cached());
            models.for_each(|reading| family.sample(&reading.series.labels, value(&reading.stats)));
            family
        })
        .collect();
    let mut failures = Family::new(format, "counter", FAILURES);
    for Reading { series, stats, .. } in models {
        for reason in FailureReason::ALL {
            failures.labelled(&series.labels, ("reason", reason_label(reason)), stats.failures[reason]);
        }
    }
    families.push(failures);
    families
}

fn gauges(models: &[Reading], format: Format) -> [Family; 4] {
    let [mut pending, mut load, mut provider, mut gpu_memory] =
        [PENDING, LOAD_SECONDS, PROVIDER, GPU_MEMORY].map(|metric| Family::new(format, "gauge", metric));
    for Reading { series, model, .. } in models {
        pending.sample(&series.labels, model.pending_requests());
        load.sample(&series.labels, model.load_time().as_secs_f64());
        provider.sample(&series.provider, 1);
        for &GpuMemory { gpu, bytes } in model.gpu_memory() {
            gpu_memory.labelled(&series.labels, ("gpu", gpu), bytes);
        }
    }
    [pending, load, provider, gpu_memory]
}

fn distributions(models: &[Reading], format: Format) -> Vec<Family> {
    let now = Instant::now();
    let mut summaries = SUMMARIES.map(|summary| Family::new(format, "summary", summary));
    let mut phases = PHASES.map(|phase| Family::new(format, "histogram", phase));
    let mut first_response = Family::new(format, "histogram", FIRST_RESPONSE);
    for Series { labels, distributions, .. } in models.iter().map(|reading| &*reading.series) {
        for (family, summary) in summaries.iter_mut().zip(distributions.summaries.iter().flatten()) {
            summary.write(family, labels, now);
        }
        for (family, histogram) in phases.iter_mut().zip(distributions.phases.iter().flatten()) {
            histogram.write(family, labels);
        }
        if let Some(histogram) = &distributions.first_response {
            histogram.write(&mut first_response, labels);
        }
    }
    summaries.into_iter().chain(phases).chain([first_response]).collect()
}

impl Series {
    /// Subscribes to the model's answered requests if distributions are enabled.
    fn new(model: &Model, config: &ModelConfig, options: &MetricsOptions) -> Self {
        let (spec, placement) = (model.spec(), model.placement());
        let mut labels =
            vec![Label::new("model", spec.name().to_owned()), Label::new("version", spec.version().to_string())];
        let tags: BTreeMap<_, _> = config.metric_tags.iter().collect();
        labels.extend(tags.into_iter().map(|(name, value)| Label::new(format!("_{name}"), value.clone())));
        let reason = placement.reason.clone().unwrap_or_default();
        let provider = [Label::new("provider", placement.provider.clone()), Label::new("reason", reason)];
        let distributions = Arc::new(Distributions::new(options));
        if distributions.any() {
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
        let phase = |_| Histogram::new(Duration::from_micros(1), PHASE_BOUNDS_US);
        let first_response = || Histogram::new(Duration::from_millis(1), FIRST_RESPONSE_BOUNDS_MS);
        Self {
            summaries: options.summary_latencies.then(|| SUMMARIES.map(summary)),
            phases: options.phase_histograms.then(|| PHASES.map(phase)),
            first_response: options.first_response_histogram.then(first_response),
        }
    }

    /// Whether anything is recorded.
    fn any(&self) -> bool {
        self.summaries.is_some() || self.phases.is_some() || self.first_response.is_some()
    }

    fn record(&self, elapsed: Duration, timings: &StageTimings) {
        if let Some(histogram) = &self.first_response {
            histogram.record(elapsed);
        }
        let input = timings[Stage::Gather] + timings[Stage::CopyIn];
        let phases = [elapsed, timings[Stage::Queue], input, timings[Stage::Infer], timings[Stage::CopyOut]];
        // The response cache answers without a run.
        let is_run = input + timings[Stage::Infer] > Duration::ZERO;
        let phases = || phases.into_iter().take(if is_run { PHASES.len() } else { 2 });
        if let Some(histograms) = &self.phases {
            histograms.iter().zip(phases()).for_each(|(histogram, time)| histogram.record(time));
        }
        if let Some(summaries) = &self.summaries {
            let now = Instant::now();
            summaries.iter().zip(phases()).for_each(|(summary, time)| summary.record(time, now));
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
        let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
        Model::start(spec, vec![Box::new(Echo::default())], vec![], BufferPool::new(1 << 20), Duration::ZERO).unwrap()
    }

    fn request() -> InferRequest {
        InferRequest::new(
            Instant::now(),
            vec![Some(Tensor::new(DataType::Fp32, Shape::new([1, 1]), Bytes::from(vec![0; 4])).unwrap())],
            1,
            OutputSet::all(1),
        )
    }

    fn all_options() -> MetricsOptions {
        MetricsOptions { summary_latencies: true, first_response_histogram: true, ..MetricsOptions::default() }
    }

    /// Names of the metrics that have help texts.
    fn names(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect()
    }

    #[tokio::test]
    async fn each_model_has_series_until_it_is_forgotten() {
        let (metrics, registry) = (ServiceMetrics::new(MetricsOptions::default()), Registry::default());
        let tagged = ModelConfig { metric_tags: [("team".into(), "red".into())].into(), ..ModelConfig::default() };
        for (name, config) in [("a", ModelConfig::default()), ("b", tagged)] {
            let model = model(name).with_gpu_memory(vec![GpuMemory { gpu: 1, bytes: 64 }]);
            metrics.register(&model, &config);
            registry.set(name, 1, VersionState::Ready(Arc::new(model)));
        }
        registry.resolve("a", None).unwrap().infer(request()).await.unwrap();
        let text = metrics.render(&registry, Format::Text);
        assert!(text.contains("nv_inference_count{model=\"a\",version=\"1\"} 1\n"), "{text}");
        assert!(text.contains("nv_inference_count{model=\"b\",version=\"1\",_team=\"red\"} 0\n"), "{text}");
        assert_eq!(text.matches("# TYPE nv_inference_count counter").count(), 1, "{text}");
        assert!(text.contains("quintet_model_gpu_memory_bytes{model=\"a\",version=\"1\",gpu=\"1\"} 64\n"), "{text}");
        for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
            let line = format!("nv_inference_request_failure{{model=\"a\",version=\"1\",reason=\"{reason}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        insta::assert_snapshot!(names(&text).join("\n"), @r"
        nv_inference_compute_infer_duration_histogram_us
        nv_inference_compute_infer_duration_us
        nv_inference_compute_input_duration_histogram_us
        nv_inference_compute_input_duration_us
        nv_inference_compute_output_duration_histogram_us
        nv_inference_compute_output_duration_us
        nv_inference_count
        nv_inference_exec_count
        nv_inference_pending_request_count
        nv_inference_queue_duration_histogram_us
        nv_inference_queue_duration_us
        nv_inference_request_duration_histogram_us
        nv_inference_request_duration_us
        nv_inference_request_failure
        nv_inference_request_success
        nv_model_load_duration_secs
        quintet_connections_closed_total
        quintet_model_gpu_memory_bytes
        quintet_model_provider_info
        ");
        metrics.forget("a");
        assert!(!metrics.render(&registry, Format::Text).contains("model=\"a\""));
    }

    #[tokio::test]
    async fn counts_distributions_and_the_cache_if_enabled() {
        let (metrics, registry) = (ServiceMetrics::new(all_options()), Registry::default());
        let model = model("m").with_cache(Arc::new(Cache::new(1 << 20)));
        metrics.register(&model, &ModelConfig::default());
        registry.set("m", 1, VersionState::Ready(Arc::new(model)));
        let model = registry.resolve("m", None).unwrap();
        for _ in 0..3 {
            model.infer(request()).await.unwrap();
        }
        let text = metrics.render(&registry, Format::Text);
        for line in [
            "nv_inference_request_summary_us_count{model=\"m\",version=\"1\"} 3",
            "nv_inference_first_response_histogram_ms_bucket{model=\"m\",version=\"1\",le=\"100\"} 3",
            "nv_inference_request_duration_histogram_us_bucket{model=\"m\",version=\"1\",le=\"+Inf\"} 3",
            "nv_inference_queue_duration_histogram_us_count{model=\"m\",version=\"1\"} 3",
            "nv_inference_compute_infer_duration_histogram_us_count{model=\"m\",version=\"1\"} 1",
            "nv_cache_num_hits_per_model{model=\"m\",version=\"1\"} 2",
            "nv_cache_num_misses_per_model{model=\"m\",version=\"1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
