//! Settings of traces from flags and requests. A model's settings override the server's.

use std::collections::BTreeMap;

use quintet_engine::{ErrorKind, InferError};

/// A change of settings: each name with its values. No value resets the setting to its default.
pub type Update = BTreeMap<String, Vec<String>>;

/// The settings in force, by name, each with its values.
pub type TraceSettings = Vec<(&'static str, Vec<String>)>;

/// What is recorded about a request (`trace_level`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// Timestamps (`TIMESTAMPS`).
    pub(super) timestamps: bool,
    /// Inputs and outputs (`TENSORS`).
    pub(super) tensors: bool,
}

impl Levels {
    /// Whether requests are traced at all.
    pub(super) fn any(self) -> bool {
        self.timestamps || self.tensors
    }

    /// The names of the levels; `OFF` for none.
    pub(super) fn names(self) -> Vec<String> {
        let levels = [(self.timestamps, "TIMESTAMPS"), (self.tensors, "TENSORS"), (!self.any(), "OFF")];
        levels.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned()).collect()
    }

    /// The levels with these names; `None` for no name.
    fn read(names: &[String]) -> Result<Option<Self>, InferError> {
        let mut levels = None;
        for name in names {
            let levels = levels.get_or_insert_with(Self::default);
            match name.as_str() {
                "OFF" => {}
                "TIMESTAMPS" => levels.timestamps = true,
                "TENSORS" => levels.tensors = true,
                other => {
                    return Err(InferError::new(
                        ErrorKind::Unsupported,
                        format_args!("trace level '{other}' is not supported: use OFF, TIMESTAMPS or TENSORS"),
                    ));
                }
            }
        }
        Ok(levels)
    }
}

/// The form of traces (`trace_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Triton's JSON in files.
    #[default]
    Triton,
    /// OpenTelemetry's spans, sent to a collector.
    OpenTelemetry,
}

impl Mode {
    /// Its name in flags and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Triton => "triton",
            Self::OpenTelemetry => "opentelemetry",
        }
    }

    /// The mode of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an unknown name.
    pub fn from_name(name: &str) -> Result<Self, InferError> {
        [Self::Triton, Self::OpenTelemetry].into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            InferError::new(
                ErrorKind::Unsupported,
                format_args!("trace mode '{name}' is not supported: use triton or opentelemetry"),
            )
        })
    }
}

/// The settings in force, for the server or for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) levels: Levels,
    /// Every `rate`-th request is traced; 0 traces only requests that are part of a client's trace.
    pub(super) rate: u32,
    /// The largest number of requests to trace; `None` for no limit.
    pub(super) count: Option<u32>,
    /// Traces per file; 0 puts all traces into one file.
    pub(super) log_frequency: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { levels: Levels::default(), rate: 1000, count: None, log_frequency: 0 }
    }
}

/// A parsed [`Update`]: `None` keeps a setting, `Some(None)` resets it to its default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    levels: Option<Option<Levels>>,
    rate: Option<Option<u32>>,
    count: Option<Option<Option<u32>>>,
    log_frequency: Option<Option<u32>>,
}

/// The settings that were set for the server or for a model; the others are those of the level above.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Explicit {
    levels: Option<Levels>,
    rate: Option<u32>,
    count: Option<Option<u32>>,
    log_frequency: Option<u32>,
}

impl Explicit {
    /// These settings, and those of `base` for what is not set here.
    pub(super) fn over(self, base: Settings) -> Settings {
        Settings {
            levels: self.levels.unwrap_or(base.levels),
            rate: self.rate.unwrap_or(base.rate),
            count: self.count.unwrap_or(base.count),
            log_frequency: self.log_frequency.unwrap_or(base.log_frequency),
        }
    }

    #[must_use]
    pub(super) fn changed(mut self, change: Change) -> Self {
        fn set<T>(setting: &mut Option<T>, change: Option<Option<T>>) {
            if let Some(value) = change {
                *setting = value;
            }
        }
        set(&mut self.levels, change.levels);
        set(&mut self.rate, change.rate);
        set(&mut self.count, change.count);
        set(&mut self.log_frequency, change.log_frequency);
        self
    }

    pub(super) fn is_empty(self) -> bool {
        self.levels.is_none() && self.rate.is_none() && self.count.is_none() && self.log_frequency.is_none()
    }
}

/// Parses a change of settings for a server that traces in this mode.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for an unknown setting or a wrong value, [`ErrorKind::Unsupported`] for a setting that
/// cannot be changed.
pub(super) fn parse(update: &Update, mode: Mode) -> Result<Change, InferError> {
    let mut change = Change::default();
    for (name, values) in update {
        let single = || match &values[..] {
            [] => Ok(None),
            [value] => Ok(Some(value.as_str())),
            _ => Err(InferError::invalid(format_args!("expect only 1 value for '{name}', got {}", values.len()))),
        };
        match name.as_str() {
            "trace_level" => change.levels = Some(Levels::read(values)?),
            "trace_rate" => change.rate = Some(single()?.map(|text| number(name, text)).transpose()?),
            "log_frequency" => change.log_frequency = Some(single()?.map(|text| number(name, text)).transpose()?),
            "trace_count" => change.count = Some(single()?.map(count).transpose()?),
            "trace_file" => {
                return Err(InferError::new(
                    ErrorKind::Unsupported,
                    "trace file location can not be updated through network protocol",
                ));
            }
            "trace_mode" => {
                if let Some(name) = single()?
                    && Mode::from_name(name)? != mode
                {
                    return Err(InferError::new(
                        ErrorKind::Unsupported,
                        format_args!("trace mode can not be updated through network protocol: it is '{}'", mode.name()),
                    ));
                }
            }
            _ => {
                return Err(InferError::invalid(format_args!(
                    "unknown trace setting '{name}': use trace_level, trace_rate, trace_count or log_frequency"
                )));
            }
        }
    }
    let levels = change.levels.flatten().unwrap_or_default();
    if levels.tensors && mode == Mode::OpenTelemetry {
        return Err(InferError::new(
            ErrorKind::Unsupported,
            format_args!("Tensor level tracing is not supported by the mode: {}", mode.name()),
        ));
    }
    Ok(change)
}

fn number(name: &str, text: &str) -> Result<u32, InferError> {
    text.parse().map_err(|_| {
        InferError::invalid(format_args!("Unable to parse '{name}', got: {text}; use a whole number of at least 0"))
    })
}

/// Parses `trace_count`; -1 is no limit.
fn count(text: &str) -> Result<Option<u32>, InferError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(count) if count < -1 => {
            Err(InferError::invalid(format_args!("Unable to parse 'trace_count'. Expecting value >= -1, got:{text}")))
        }
        _ => number("trace_count", text).map(Some),
    }
}
