//! Traces of single requests in Triton's JSON: which are taken, by settings that clients may change.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use quintet_engine::{ErrorKind, InferError, Stage, StageTimings};
use serde_json::json;

use super::trace_file::TraceFile;
use crate::service::Service;

/// The settings in force, by name, each with its values.
pub type Told = Vec<(&'static str, Vec<String>)>;

/// The settings of a model, or of the server.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a model that is not in service.
pub fn settings(service: &Service, model: Option<&str>) -> Result<Told, InferError> {
    update(service, model, &Update::new())
}

/// Changes the settings of a model, or of the server, and tells them.
///
/// # Errors
/// As [`Traces::update`], and [`ErrorKind::InvalidInput`] for a model that is not in service.
pub fn update(service: &Service, model: Option<&str>, update: &Update) -> Result<Told, InferError> {
    if let Some(model) = model
        && service.registry().ready_versions(model).is_empty()
    {
        return Err(InferError::invalid(format_args!("Request for unknown model : {model}")));
    }
    if !update.is_empty() {
        service.traces().update(model, update)?;
    }
    Ok(service.traces().settings(model))
}

/// What is set: of the server as a whole, or of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// Whether requests are traced at all (`trace_level` TIMESTAMPS).
    timestamps: bool,
    /// One request in so many is traced.
    rate: u32,
    /// So many are, and no more.
    count: Option<u32>,
    /// So many go into one file; 0 is all.
    log_frequency: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timestamps: false, rate: 1000, count: None, log_frequency: 0 }
    }
}

/// A change of settings: each name with its values, none of which means the default.
pub type Update = BTreeMap<String, Vec<String>>;

/// A parsed [`Update`]; `Some(None)` goes back to the default.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    timestamps: Option<Option<bool>>,
    rate: Option<Option<u32>>,
    count: Option<Option<Option<u32>>>,
    log_frequency: Option<Option<u32>>,
}

/// Settings with what they have counted since they were made.
#[derive(Default)]
struct Group {
    /// What the model has of its own; everything for the server as a whole.
    own: Own,
    seen: u64,
    traced: u64,
}

/// Settings that may be left to those of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    timestamps: Option<bool>,
    rate: Option<u32>,
    count: Option<Option<u32>>,
    log_frequency: Option<u32>,
}

impl Own {
    fn over(self, base: Settings) -> Settings {
        Settings {
            timestamps: self.timestamps.unwrap_or(base.timestamps),
            rate: self.rate.unwrap_or(base.rate),
            count: self.count.unwrap_or(base.count),
            log_frequency: self.log_frequency.unwrap_or(base.log_frequency),
        }
    }

    fn change(&mut self, change: Change) {
        fn set<T>(own: &mut Option<T>, change: Option<Option<T>>) {
            if let Some(value) = change {
                *own = value;
            }
        }
        set(&mut self.timestamps, change.timestamps);
        set(&mut self.rate, change.rate);
        set(&mut self.count, change.count);
        set(&mut self.log_frequency, change.log_frequency);
    }

    fn is_empty(self) -> bool {
        self.timestamps.is_none() && self.rate.is_none() && self.count.is_none() && self.log_frequency.is_none()
    }
}

/// The traces of a service.
#[derive(Default)]
pub struct Traces {
    path: Option<PathBuf>,
    file: Option<TraceFile>,
    /// Whether any settings trace: asked by each request.
    active: AtomicBool,
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    server: Group,
    models: HashMap<String, Group>,
}

/// A request that is traced.
pub struct Sampled {
    id: u64,
    log_frequency: u32,
}

/// What carried a request: it gives the first timestamps their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Traces {
    /// Traces into `path`; nothing can be traced without one.
    ///
    /// # Errors
    /// When the system has no thread to write them.
    pub fn new(path: Option<PathBuf>) -> std::io::Result<Self> {
        let file = path.clone().map(TraceFile::open).transpose()?;
        Ok(Self { path, file, ..Self::default() })
    }

    /// The settings in force, in Triton's order: of a model, or of the server.
    pub fn settings(&self, model: Option<&str>) -> Told {
        let state = self.state.lock();
        let settings = state.effective(model);
        let level = if settings.timestamps { "TIMESTAMPS" } else { "OFF" };
        let count = settings.count.map_or_else(|| "-1".to_owned(), |count| count.to_string());
        let file = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        [
            ("trace_level", level.to_owned()),
            ("trace_rate", settings.rate.to_string()),
            ("trace_count", count),
            ("log_frequency", settings.log_frequency.to_string()),
            ("trace_file", file),
            ("trace_mode", MODE.to_owned()),
        ]
        .map(|(name, value)| (name, vec![value]))
        .to_vec()
    }

    /// Changes the settings of a model, or of the server; those that are not named stay.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is no setting or no value of it, [`ErrorKind::Unsupported`] for what
    /// cannot be changed; nothing is changed then.
    pub fn update(&self, model: Option<&str>, update: &Update) -> Result<(), InferError> {
        let change = parse(update)?;
        if change.timestamps == Some(Some(true)) && self.file.is_none() {
            return Err(InferError::invalid(
                "Attempting to set invalid trace setting :trace file name is not given; start the server with \
                 --trace-config triton,file=<path>",
            ));
        }
        let mut state = self.state.lock();
        let group = match model {
            None => &mut state.server,
            Some(model) => state.models.entry(model.to_owned()).or_default(),
        };
        group.own.change(change);
        // Counting begins anew.
        (group.seen, group.traced) = (0, 0);
        state.models.retain(|_, group| !group.own.is_empty());
        let active = state.effective(None).timestamps
            || state.models.keys().any(|model| state.effective(Some(model)).timestamps);
        self.active.store(active, Relaxed);
        Ok(())
    }

    /// Whether this request of the model is traced.
    pub fn sample(&self, model: &str) -> Option<Sampled> {
        if !self.active.load(Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        let settings = state.effective(Some(model));
        if !settings.timestamps {
            return None;
        }
        let state = &mut *state;
        let group = state.models.get_mut(model).unwrap_or(&mut state.server);
        group.seen += 1;
        let taken = group.seen.is_multiple_of(u64::from(settings.rate.max(1)))
            && settings.count.is_none_or(|count| group.traced < u64::from(count));
        if !taken {
            return None;
        }
        group.traced += 1;
        Some(Sampled { id: self.next_id.fetch_add(1, Relaxed) + 1, log_frequency: settings.log_frequency })
    }

    /// Writes a traced request down that was answered now.
    pub fn write(&self, sampled: &Sampled, request: Traced<'_>) {
        if let Some(file) = &self.file {
            file.write(entry(sampled.id, request, Instant::now()), sampled.log_frequency);
        }
    }
}

/// A traced request that was answered.
pub struct Traced<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Its version.
    pub version: u64,
    /// The client's name for the request; empty if it has none.
    pub id: &'a str,
    /// What carried it.
    pub carrier: Carrier,
    /// When the server had its first byte.
    pub started: Instant,
    /// Its stage times.
    pub timings: &'a StageTimings,
}

/// Two lines of Triton's trace file: what was asked, and when what happened (nanoseconds of the UNIX epoch).
fn entry(id: u64, request: Traced<'_>, ended: Instant) -> String {
    let (received_from, received) = match request.carrier {
        Carrier::Http => ("HTTP_RECV_START", "HTTP_RECV_END"),
        Carrier::Grpc => ("GRPC_WAITREAD_START", "GRPC_WAITREAD_END"),
    };
    let time = |stage| request.timings[stage];
    let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut at = epoch.saturating_sub(request.started.elapsed());
    let started = at;
    let mut timestamps = Vec::with_capacity(10);
    let mut stamp = |name: &str, after: Duration| {
        at += after;
        timestamps.push(json!({"name": name, "ns": at.as_nanos() as u64}));
    };
    stamp(received_from, Duration::ZERO);
    stamp(received, time(Stage::Receive));
    stamp("REQUEST_START", time(Stage::Parse));
    stamp("QUEUE_START", Duration::ZERO);
    stamp("COMPUTE_START", time(Stage::Queue));
    stamp("COMPUTE_INPUT_END", time(Stage::Gather) + time(Stage::CopyIn));
    stamp("COMPUTE_OUTPUT_START", time(Stage::Infer));
    stamp("COMPUTE_END", time(Stage::CopyOut));
    // Whatever is between the stages is in the end.
    let ended = started + ended.saturating_duration_since(request.started);
    let ended = ended.max(at).as_nanos() as u64;
    timestamps.extend(["INFER_RESPONSE_COMPLETE", "REQUEST_END"].map(|name| json!({"name": name, "ns": ended})));
    let mut head = json!({"id": id, "model_name": request.model, "model_version": request.version});
    if !request.id.is_empty() {
        head["request_id"] = request.id.into();
    }
    format!("{head},\n{}", json!({"id": id, "timestamps": timestamps}))
}

impl State {
    /// The settings that hold for a model, or for those that have none of their own.
    fn effective(&self, model: Option<&str>) -> Settings {
        let server = self.server.own.over(Settings::default());
        model.and_then(|model| self.models.get(model)).map_or(server, |group| group.own.over(server))
    }
}

/// The only mode.
const MODE: &str = "triton";

fn parse(update: &Update) -> Result<Change, InferError> {
    let mut change = Change::default();
    for (name, values) in update {
        let single = || match &values[..] {
            [] => Ok(None),
            [value] => Ok(Some(value.as_str())),
            _ => Err(InferError::invalid(format_args!("expect only 1 value for '{name}', got {}", values.len()))),
        };
        match name.as_str() {
            "trace_level" => change.timestamps = Some(level(values)?),
            "trace_rate" => change.rate = Some(single()?.map(|text| number(name, text)).transpose()?),
            "log_frequency" => change.log_frequency = Some(single()?.map(|text| number(name, text)).transpose()?),
            "trace_count" => change.count = Some(single()?.map(count).transpose()?),
            "trace_file" => {
                return Err(InferError::new(
                    ErrorKind::Unsupported,
                    "trace file location can not be updated through network protocol",
                ));
            }
            "trace_mode" => match single()? {
                None | Some(MODE) => {}
                Some(other) => return Err(mode_unsupported(other)),
            },
            _ => {
                return Err(InferError::invalid(format_args!(
                    "unknown trace setting '{name}': use trace_level, trace_rate, trace_count or log_frequency"
                )));
            }
        }
    }
    Ok(change)
}

/// The refusal of a trace mode that there is not.
pub fn mode_unsupported(mode: &str) -> InferError {
    InferError::new(
        ErrorKind::Unsupported,
        format_args!("trace mode '{mode}' is not supported: traces are written in mode '{MODE}', as JSON files"),
    )
}

/// Whether these levels ask for timestamps; `None` for no level.
fn level(levels: &[String]) -> Result<Option<bool>, InferError> {
    let mut timestamps = None;
    for level in levels {
        let on = match level.as_str() {
            "OFF" => false,
            "TIMESTAMPS" => true,
            other => {
                return Err(InferError::new(
                    ErrorKind::Unsupported,
                    format_args!("trace level '{other}' is not supported: use OFF or TIMESTAMPS"),
                ));
            }
        };
        timestamps = Some(timestamps.unwrap_or(false) || on);
    }
    Ok(timestamps)
}

fn number(name: &str, text: &str) -> Result<u32, InferError> {
    text.parse().map_err(|_| {
        InferError::invalid(format_args!("Unable to parse '{name}', got: {text}; it is a number of at least 0"))
    })
}

/// -1 is no end.
fn count(text: &str) -> Result<Option<u32>, InferError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(count) if count < -1 => {
            Err(InferError::invalid(format_args!("Unable to parse 'trace_count'. Expecting value >= -1, got:{text}")))
        }
        _ => number("trace_count", text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(pairs: &[(&str, &[&str])]) -> Update {
        let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        pairs.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    fn told(traces: &Traces, model: Option<&str>) -> String {
        let settings = traces.settings(model).into_iter().take(4).map(|(_, values)| values.join("+"));
        settings.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_model_has_the_servers_settings_but_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(Some(folder.path().join("trace.json"))).unwrap();
        assert_eq!(told(&traces, None), "OFF 1000 -1 0");
        traces.update(None, &update(&[("trace_level", &["TIMESTAMPS"]), ("trace_rate", &["1"])])).unwrap();
        traces.update(Some("m"), &update(&[("trace_count", &["2"]), ("log_frequency", &["5"])])).unwrap();
        assert_eq!([told(&traces, Some("m")), told(&traces, None)], ["TIMESTAMPS 1 2 5", "TIMESTAMPS 1 -1 0"]);
        let taken = |model: &str| (0..5).filter(|_| traces.sample(model).is_some()).count();
        assert_eq!([taken("m"), taken("other")], [2, 5]);
        traces.update(None, &update(&[("trace_rate", &["2"])])).unwrap();
        assert_eq!((told(&traces, Some("m")), taken("other")), ("TIMESTAMPS 2 2 5".to_owned(), 2));
        traces.update(Some("m"), &update(&[("trace_level", &["OFF"])])).unwrap();
        assert_eq!([taken("m"), taken("other")], [0, 3]);
        let back = update(&[("trace_level", &[]), ("trace_count", &[]), ("log_frequency", &[]), ("trace_rate", &[])]);
        traces.update(Some("m"), &back).unwrap();
        assert_eq!(told(&traces, Some("m")), told(&traces, None));
        traces.update(None, &back).unwrap();
        assert_eq!((told(&traces, None), taken("other")), ("OFF 1000 -1 0".to_owned(), 0));
    }

    #[test]
    fn what_is_no_setting_changes_nothing() {
        let traces = Traces::new(None).unwrap();
        let wrong: [(&str, &[&str]); 10] = [
            ("trace_level", &["TIMESTAMPS"]),
            ("trace_level", &["TENSORS"]),
            ("trace_rate", &["abc"]),
            ("trace_rate", &["-10"]),
            ("trace_rate", &["1", "2"]),
            ("trace_count", &["-5"]),
            ("trace_file", &["/tmp/x"]),
            ("trace_mode", &["opentelemetry"]),
            ("log_frequency", &[""]),
            ("nosuch", &["1"]),
        ];
        let refusals = wrong.map(|wrong| {
            let error = traces.update(None, &update(&[("trace_count", &["1"]), wrong])).unwrap_err();
            format!("{:?}: {}", error.kind(), error.message())
        });
        assert_eq!(told(&traces, None), "OFF 1000 -1 0");
        insta::assert_snapshot!(refusals.join("\n"), @r"
        InvalidInput: Attempting to set invalid trace setting :trace file name is not given; start the server with --trace-config triton,file=<path>
        Unsupported: trace level 'TENSORS' is not supported: use OFF or TIMESTAMPS
        InvalidInput: Unable to parse 'trace_rate', got: abc; it is a number of at least 0
        InvalidInput: Unable to parse 'trace_rate', got: -10; it is a number of at least 0
        InvalidInput: expect only 1 value for 'trace_rate', got 2
        InvalidInput: Unable to parse 'trace_count'. Expecting value >= -1, got:-5
        Unsupported: trace file location can not be updated through network protocol
        Unsupported: trace mode 'opentelemetry' is not supported: traces are written in mode 'triton', as JSON files
        InvalidInput: Unable to parse 'log_frequency', got: ; it is a number of at least 0
        InvalidInput: unknown trace setting 'nosuch': use trace_level, trace_rate, trace_count or log_frequency
        ");
    }

    #[test]
    fn timestamps_rise_and_are_json() {
        let mut timings = StageTimings::default();
        Stage::ALL.iter().for_each(|&stage| timings[stage] = Duration::from_micros(10));
        let started = Instant::now();
        let request = Traced { model: "m", version: 1, id: "7", carrier: Carrier::Http, started, timings: &timings };
        let text = entry(3, request, started + Duration::from_millis(1));
        let entries: Vec<serde_json::Value> = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert_eq!(entries[0], json!({"id": 3, "model_name": "m", "model_version": 1, "request_id": "7"}));
        let stamps = entries[1]["timestamps"].as_array().unwrap();
        let names: Vec<_> = stamps.iter().map(|stamp| stamp["name"].as_str().unwrap()).collect();
        insta::assert_snapshot!(names.join(" "), @r"HTTP_RECV_START HTTP_RECV_END REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END COMPUTE_OUTPUT_START COMPUTE_END INFER_RESPONSE_COMPLETE REQUEST_END");
        let times: Vec<_> = stamps.iter().map(|stamp| stamp["ns"].as_u64().unwrap()).collect();
        assert!(times.is_sorted() && times[9] - times[0] == 1_000_000, "{times:?}");
    }
}
