//! Decides which requests of a service are traced, by settings that clients can change.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quintet_engine::{InferError, ModelSpec};

use super::{
    context::Context,
    file::TraceFile,
    otlp::{Collector, Exporter},
    recorder::{Arrival, Trace},
    settings::{self, Explicit, Mode, Settings, TraceSettings, Update},
    sink::{Losses, Sink, Waiting},
};

/// How long the server waits at shutdown until the traces are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where traces are written.
#[derive(Clone, Debug)]
pub enum Target {
    /// A file. Without a path nothing can be traced.
    File(Option<PathBuf>),
    /// An OpenTelemetry collector.
    Collector(Collector),
}

impl Target {
    fn mode(&self) -> Mode {
        match self {
            Self::File(_) => Mode::Triton,
            Self::Collector(_) => Mode::OpenTelemetry,
        }
    }
}

/// The settings of a model or of the server, and the requests since they were last changed.
#[derive(Default)]
struct Group {
    explicit: Explicit,
    /// Requests that the rate was applied to.
    seen: u64,
    /// Those of them that were traced.
    traced: u64,
}

/// The traces of a service.
pub struct Traces {
    target: Target,
    sink: Option<Sink>,
    /// Whether any settings trace at all, so that other requests need not lock `state`.
    active: AtomicBool,
    ids: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    server: Group,
    models: HashMap<String, Group>,
}

impl Traces {
    /// No traces.
    pub fn none() -> Self {
        Self::with(Target::File(None), None)
    }

    /// Traces that are written to `target`. `waiting` limits the traces that wait to be written; a collector has its own
    /// limit on their number.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn new(target: Target, waiting: Waiting) -> io::Result<Self> {
        let losses = Losses::default();
        let sink = match &target {
            Target::File(None) => None,
            Target::File(Some(path)) => {
                Some(Sink::start(TraceFile::new(path.clone(), losses.clone()), waiting, losses)?)
            }
            Target::Collector(collector) => {
                let exporter = Exporter::new(collector.clone(), losses.clone());
                let waiting = Waiting { traces: collector.max_waiting(), ..waiting };
                Some(Sink::start(exporter, waiting, losses)?)
            }
        };
        Ok(Self::with(target, sink))
    }

    fn with(target: Target, sink: Option<Sink>) -> Self {
        Self { target, sink, active: AtomicBool::new(false), ids: Arc::default(), state: Mutex::default() }
    }

    /// The settings in force of a model or of the server, in Triton's order.
    pub fn settings(&self, model: Option<&str>) -> TraceSettings {
        let settings = self.state.lock().effective(model);
        let count = settings.count.map_or_else(|| "-1".to_owned(), |count| count.to_string());
        let mut list = vec![
            ("trace_level", settings.levels.names()),
            ("trace_rate", vec![settings.rate.to_string()]),
            ("trace_count", vec![count]),
        ];
        let mode = ("trace_mode", vec![self.target.mode().name().to_owned()]);
        match &self.target {
            Target::File(path) => {
                let path = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                list.push(("log_frequency", vec![settings.log_frequency.to_string()]));
                list.push(("trace_file", vec![path]));
                list.push(mode);
            }
            Target::Collector(collector) => {
                list.push(mode);
                list.extend(collector.settings());
            }
        }
        list
    }

    /// Changes the settings of a model or of the server; those that are not named stay.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for an unknown setting or a wrong value, and
    /// [`quintet_engine::ErrorKind::Unsupported`] for a setting that cannot be changed. Nothing is changed then.
    pub fn update(&self, model: Option<&str>, update: &Update) -> Result<(), InferError> {
        let change = settings::parse(update, self.target.mode())?;
        let mut state = self.state.lock();
        let state = &mut *state;
        let server = state.server.explicit.over(Settings::default());
        let group = match model {
            None => &mut state.server,
            Some(model) => state.models.entry(model.to_owned()).or_default(),
        };
        let explicit = group.explicit.changed(change);
        let traces = explicit.over(if model.is_some() { server } else { Settings::default() }).levels.any();
        if traces && self.sink.is_none() {
            state.models.retain(|_, group| !group.explicit.is_empty());
            return Err(InferError::invalid(
                "Attempting to set invalid trace setting :trace file name is not given; start the server with \
                 --trace-config triton,file=<path>",
            ));
        }
        *group = Group { explicit, seen: 0, traced: 0 };
        state.models.retain(|_, group| !group.explicit.is_empty());
        let active = state.effective(None).levels.any()
            || state.models.keys().any(|model| state.effective(Some(model)).levels.any());
        self.active.store(active, Relaxed);
        Ok(())
    }

    /// Starts the trace of a request, if it is traced. With a collector, the client decides on a request that is part of
    /// its trace, by the flag `sampled`, as OpenTelemetry's sampler `parentbased` does.
    pub fn begin(&self, spec: &ModelSpec, arrival: Arrival<'_>) -> Option<Trace> {
        if !self.active.load(Relaxed) {
            return None;
        }
        let context = match self.target {
            Target::File(_) => None,
            Target::Collector(_) => Context::from_headers(arrival.headers),
        };
        if context.as_ref().is_some_and(|context| !context.sampled) {
            return None;
        }
        let settings = self.sample(spec.name(), context.is_some())?;
        Some(Trace::new(self.sink.clone()?, spec, arrival, &self.ids, settings).within(context))
    }

    /// The settings for the trace of a request of the model, if it is traced; `always` ignores rate and count.
    fn sample(&self, model: &str, always: bool) -> Option<Settings> {
        let mut state = self.state.lock();
        let settings = state.effective(Some(model));
        if !settings.levels.any() {
            return None;
        }
        let state = &mut *state;
        let group = state.models.get_mut(model).unwrap_or(&mut state.server);
        let mut sampled = false;
        if settings.rate > 0 {
            group.seen += 1;
            sampled = group.seen.is_multiple_of(u64::from(settings.rate))
                && settings.count.is_none_or(|count| group.traced < u64::from(count));
            group.traced += u64::from(sampled);
        }
        (sampled || always).then_some(settings)
    }

    /// Waits a few seconds at most until all traces are written, and logs how many were dropped. Blocks.
    pub fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush(FLUSH_TIMEOUT);
        }
    }
}

impl State {
    /// The settings in force of a model or of the server.
    fn effective(&self, model: Option<&str>) -> Settings {
        let server = self.server.explicit.over(Settings::default());
        model.and_then(|model| self.models.get(model)).map_or(server, |group| group.explicit.over(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(pairs: &[(&str, &[&str])]) -> Update {
        let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        pairs.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    fn first_settings(traces: &Traces, model: Option<&str>) -> String {
        let settings = traces.settings(model).into_iter().take(4).map(|(_, values)| values.join("+"));
        settings.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_models_settings_override_the_servers() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(Target::File(Some(folder.path().join("trace.json"))), Waiting::default()).unwrap();
        assert_eq!(first_settings(&traces, None), "OFF 1000 -1 0");
        traces.update(None, &update(&[("trace_level", &["TIMESTAMPS"]), ("trace_rate", &["1"])])).unwrap();
        traces.update(Some("m"), &update(&[("trace_count", &["2"]), ("log_frequency", &["5"])])).unwrap();
        assert_eq!(
            [first_settings(&traces, Some("m")), first_settings(&traces, None)],
            ["TIMESTAMPS 1 2 5", "TIMESTAMPS 1 -1 0"]
        );
        let traced = |model: &str| (0..5).filter(|_| traces.sample(model, false).is_some()).count();
        assert_eq!([traced("m"), traced("other")], [2, 5]);
        traces.update(None, &update(&[("trace_rate", &["2"])])).unwrap();
        assert_eq!((first_settings(&traces, Some("m")), traced("other")), ("TIMESTAMPS 2 2 5".to_owned(), 2));
        traces.update(Some("m"), &update(&[("trace_level", &["OFF"])])).unwrap();
        assert_eq!([traced("m"), traced("other")], [0, 3]);
        let back = update(&[("trace_level", &[]), ("trace_count", &[]), ("log_frequency", &[]), ("trace_rate", &[])]);
        traces.update(Some("m"), &back).unwrap();
        assert_eq!(first_settings(&traces, Some("m")), first_settings(&traces, None));
        traces.update(None, &back).unwrap();
        assert_eq!((first_settings(&traces, None), traced("other")), ("OFF 1000 -1 0".to_owned(), 0));
    }

    #[test]
    fn a_clients_trace_ignores_rate_and_count() {
        let traces = Traces::new(Target::Collector(Collector::default()), Waiting::default()).unwrap();
        traces.update(None, &update(&[("trace_level", &["TIMESTAMPS"]), ("trace_rate", &["0"])])).unwrap();
        assert_eq!([false, true].map(|always| traces.sample("m", always).is_some()), [false, true]);
        traces.update(None, &update(&[("trace_rate", &["1"]), ("trace_count", &["1"])])).unwrap();
        assert_eq!([false, false, true].map(|always| traces.sample("m", always).is_some()), [true, false, true]);
        let tensors = traces.update(None, &update(&[("trace_level", &["TENSORS"])])).unwrap_err();
        assert_eq!(tensors.to_string(), "Tensor level tracing is not supported by the mode: opentelemetry");
        let settings: Vec<_> =
            traces.settings(None).into_iter().map(|(name, value)| format!("{name} {}", value.join(","))).collect();
        insta::assert_snapshot!(settings.join("\n"), @r"
        trace_level TIMESTAMPS
        trace_rate 1
        trace_count 1
        trace_mode opentelemetry
        bsp_max_export_batch_size 512
        bsp_max_queue_size 2048
        bsp_schedule_delay 5000
        resource service.name=triton-inference-server
        url http://localhost:4318/v1/traces
        ");
    }

    #[test]
    fn a_wrong_setting_changes_nothing() {
        let traces = Traces::none();
        let wrong: [(&str, &[&str]); 12] = [
            ("trace_level", &["TIMESTAMPS"]),
            ("trace_level", &["OFF", "TENSORS"]),
            ("trace_level", &["MAX"]),
            ("trace_rate", &["abc"]),
            ("trace_rate", &["-10"]),
            ("trace_rate", &["1", "2"]),
            ("trace_count", &["-5"]),
            ("trace_file", &["/tmp/x"]),
            ("trace_mode", &["opentelemetry"]),
            ("trace_mode", &["other"]),
            ("log_frequency", &[""]),
            ("nosuch", &["1"]),
        ];
        let refusals = wrong.map(|wrong| {
            let error = traces.update(None, &update(&[("trace_count", &["1"]), wrong])).unwrap_err();
            format!("{:?}: {}", error.kind(), error)
        });
        assert_eq!(first_settings(&traces, None), "OFF 1000 -1 0");
        insta::assert_snapshot!(refusals.join("\n"), @r"
        InvalidInput: Attempting to set invalid trace setting :trace file name is not given; start the server with --trace-config triton,file=<path>
        InvalidInput: Attempting to set invalid trace setting :trace file name is not given; start the server with --trace-config triton,file=<path>
        Unsupported: trace level 'MAX' is not supported: use OFF, TIMESTAMPS or TENSORS
        InvalidInput: Unable to parse 'trace_rate', got: abc; use a whole number of at least 0
        InvalidInput: Unable to parse 'trace_rate', got: -10; use a whole number of at least 0
        InvalidInput: expect only 1 value for 'trace_rate', got 2
        InvalidInput: Unable to parse 'trace_count'. Expecting value >= -1, got:-5
        Unsupported: trace file location can not be updated through network protocol
        Unsupported: trace mode can not be updated through network protocol: it is 'triton'
        Unsupported: trace mode 'other' is not supported: use triton or opentelemetry
        InvalidInput: Unable to parse 'log_frequency', got: ; use a whole number of at least 0
        InvalidInput: unknown trace setting 'nosuch': use trace_level, trace_rate, trace_count or log_frequency
        ");
    }
}
