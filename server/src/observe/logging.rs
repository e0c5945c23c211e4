//! Log lines on stderr or in a file. Clients may change their levels and format while the server runs.

use std::{
    fs::File,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use quintet_engine::{ErrorKind, InferError};
use serde_json::{Map, Value};
use tracing::{Level, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::dynamic_filter_fn,
    fmt::writer::BoxMakeWriter,
    layer::{Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The environment variable that sets the level.
const VARIABLE: &str = "QUINTET_LOG";

/// The format of log lines, with Triton's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `default`
    Default,
    /// `ISO8601`: the same as `default`, whose times are in ISO 8601 already.
    Iso8601,
    /// `json`
    Json,
}

impl Format {
    const ALL: [(&'static str, Self); 3] =
        [("default", Self::Default), ("ISO8601", Self::Iso8601), ("json", Self::Json)];

    /// The format with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, format)| format)
    }

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Which lines are logged, and their format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Informational messages.
    pub info: bool,
    /// Warnings.
    pub warning: bool,
    /// Errors.
    pub error: bool,
    /// 1 adds this server's debug lines, 2 also its trace lines.
    pub verbose: u32,
    /// Their format.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { info: true, warning: true, error: true, verbose: 0, format: Format::Default }
    }
}

/// The current settings; a process has one log.
static LOG: Switches = Switches {
    info: AtomicBool::new(true),
    warning: AtomicBool::new(true),
    error: AtomicBool::new(true),
    verbose: AtomicU32::new(0),
    format: AtomicU8::new(0),
};

/// The file of the log; none is stderr.
static FILE: OnceLock<PathBuf> = OnceLock::new();

struct Switches {
    info: AtomicBool,
    warning: AtomicBool,
    error: AtomicBool,
    verbose: AtomicU32,
    format: AtomicU8,
}

impl Switches {
    fn set(&self, settings: Settings) {
        self.info.store(settings.info, Relaxed);
        self.warning.store(settings.warning, Relaxed);
        self.error.store(settings.error, Relaxed);
        self.verbose.store(settings.verbose, Relaxed);
        self.format.store(settings.format as u8, Relaxed);
    }

    fn get(&self) -> Settings {
        Settings {
            info: self.info.load(Relaxed),
            warning: self.warning.load(Relaxed),
            error: self.error.load(Relaxed),
            verbose: self.verbose.load(Relaxed),
            format: Format::ALL.get(usize::from(self.format.load(Relaxed))).map_or(Format::Default, |known| known.1),
        }
    }
}

impl Settings {
    /// The most verbose settings.
    const EVERYTHING: Self =
        Self { info: true, warning: true, error: true, verbose: u32::MAX, format: Format::Default };

    /// Whether a line is logged. Libraries, including ONNX Runtime, are logged from warnings up. `filtered` is whether
    /// QUINTET_LOG selects the lines instead, so that only the switches count here.
    fn shows(self, line: &Metadata<'_>, filtered: bool) -> bool {
        let ours = filtered || line.target().starts_with("quintet");
        match *line.level() {
            Level::ERROR => self.error,
            Level::WARN => self.warning,
            Level::INFO => ours && self.info,
            Level::DEBUG => ours && (filtered || self.verbose >= 1),
            Level::TRACE => ours && (filtered || self.verbose >= 2),
        }
    }
}

/// Starts logging, at the end of `file` or to stderr. The variable `QUINTET_LOG`, a filter of the `tracing` library, selects
/// lines in more detail.
///
/// # Errors
/// When `QUINTET_LOG` is not a filter, the file cannot be written, or logging was started before.
pub fn start(settings: Settings, file: Option<&Path>) -> anyhow::Result<()> {
    LOG.set(settings);
    let output = match file {
        None => Output::Stderr,
        Some(path) => {
            let opened = File::options().append(true).create(true).open(path);
            let opened = opened.with_context(|| format!("cannot write the log file {}", path.display()))?;
            let _ = FILE.set(path.to_owned());
            Output::File(Arc::new(opened))
        }
    };
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => Some(
            EnvFilter::try_new(&text).with_context(|| format!("{VARIABLE} is '{text}', which is not a log filter"))?,
        ),
        _ => None,
    };
    let registry = tracing_subscriber::registry();
    let started = match filter {
        Some(filter) => registry.with(filter).with(text(true, &output)).with(json(true, &output)).try_init(),
        None => registry.with(text(false, &output)).with(json(false, &output)).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Where lines go.
enum Output {
    Stderr,
    File(Arc<File>),
}

impl Output {
    fn writer(&self) -> BoxMakeWriter {
        match self {
            Self::Stderr => BoxMakeWriter::new(std::io::stderr),
            Self::File(file) => BoxMakeWriter::new(Arc::clone(file)),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Stderr) && std::io::stderr().is_terminal()
    }
}

/// Writes lines of text, unless the format is JSON.
fn text<S: Subscriber + for<'a> LookupSpan<'a>>(filtered: bool, output: &Output) -> impl Layer<S> + use<S> {
    tracing_subscriber::fmt::layer()
        .with_writer(output.writer())
        .with_ansi(output.is_terminal())
        .with_target(false)
        .with_filter(filter(filtered, |format| format != Format::Json))
}

/// Writes JSON lines, if the format is JSON.
fn json<S: Subscriber + for<'a> LookupSpan<'a>>(filtered: bool, output: &Output) -> impl Layer<S> + use<S> {
    tracing_subscriber::fmt::layer()
        .json()
        .with_writer(output.writer())
        .with_filter(filter(filtered, |format| format == Format::Json))
}

/// Selects the lines that the settings allow in a format. Callsites that no settings allow are disabled permanently:
/// libraries have such callsites in their innermost loops.
fn filter<S: Subscriber>(filtered: bool, has_format: fn(Format) -> bool) -> impl Filter<S> {
    dynamic_filter_fn(move |line, _| {
        let settings = LOG.get();
        has_format(settings.format) && settings.shows(line, filtered)
    })
    .with_callsite_filter(move |line| {
        if Settings::EVERYTHING.shows(line, filtered) { Interest::sometimes() } else { Interest::never() }
    })
}

/// The current settings with Triton's names, in Triton's order.
pub fn settings() -> Map<String, Value> {
    let settings = LOG.get();
    Map::from_iter([
        ("log_file".to_owned(), FILE.get().map(|path| path.display().to_string()).unwrap_or_default().into()),
        ("log_info".to_owned(), settings.info.into()),
        ("log_warning".to_owned(), settings.warning.into()),
        ("log_error".to_owned(), settings.error.into()),
        ("log_verbose_level".to_owned(), settings.verbose.into()),
        ("log_format".to_owned(), settings.format.name().into()),
    ])
}

/// Changes the named settings, which have Triton's names.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for an unknown setting or value, [`ErrorKind::Unsupported`] for the log file. Nothing is
/// changed then.
pub fn update(changes: &Map<String, Value>) -> Result<(), InferError> {
    let changed = changed(LOG.get(), changes)?;
    LOG.set(changed);
    Ok(())
}

fn changed(mut settings: Settings, changes: &Map<String, Value>) -> Result<Settings, InferError> {
    for (name, value) in changes {
        let wrong = |expected: &str| {
            InferError::invalid(format_args!("log setting '{name}' is {value}; it must be {expected}"))
        };
        let switch = || value.as_bool().ok_or_else(|| wrong("true or false"));
        match name.as_str() {
            "log_info" => settings.info = switch()?,
            "log_warning" => settings.warning = switch()?,
            "log_error" => settings.error = switch()?,
            "log_verbose_level" => {
                let level = value.as_u64().and_then(|level| u32::try_from(level).ok());
                settings.verbose = level.ok_or_else(|| wrong("a whole number of at least 0"))?;
            }
            "log_format" => {
                let format = value.as_str().and_then(Format::from_name);
                settings.format = format.ok_or_else(|| wrong("\"default\", \"ISO8601\" or \"json\""))?;
            }
            "log_file" => {
                return Err(InferError::new(
                    ErrorKind::Unsupported,
                    "log file location can not be updated through network protocol",
                ));
            }
            _ => {
                return Err(InferError::invalid(format_args!(
                    "unknown log setting '{name}': use log_info, log_warning, log_error, log_verbose_level or log_format"
                )));
            }
        }
    }
    Ok(settings)
}

/// Calls `run`, and returns the lines that this thread logs meanwhile.
#[cfg(test)]
pub(crate) fn captured<T>(run: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let outcome = tracing::subscriber::with_default(log, run);
    let text = String::from_utf8_lossy(&lines.0.lock()).into_owned();
    (outcome, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(changes: Value) -> Result<Settings, String> {
        let Value::Object(changes) = changes else { unreachable!() };
        changed(Settings::default(), &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn disables_spans_that_are_never_logged() {
        let is_off = |filtered| {
            tracing::subscriber::with_default(
                tracing_subscriber::registry()
                    .with(text(filtered, &Output::Stderr))
                    .with(json(filtered, &Output::Stderr)),
                || {
                    let library = tracing::trace_span!(target: "h2::codec", "poll");
                    let ours = tracing::info_span!(target: "quintet_server", "run");
                    [library, ours].map(|span| span.is_disabled())
                },
            )
        };
        assert_eq!(is_off(false), [true, false]);
    }

    #[test]
    fn settings_have_tritons_names() {
        let quiet = change(json!({"log_info": false, "log_verbose_level": 2, "log_format": "iso8601"})).unwrap();
        assert_eq!(quiet, Settings { info: false, verbose: 2, format: Format::Iso8601, ..Settings::default() });
        assert_eq!(settings()["log_format"], "default");
        let wrong = [
            json!({"log_info": "a"}),
            json!({"log_verbose_level": -1}),
            json!({"log_format": "foo"}),
            json!({"log_file": "/tmp/x"}),
            json!({"nosuch": 1}),
        ];
        let refusals = wrong.map(|wrong| change(wrong).unwrap_err());
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        log setting 'log_info' is "a"; it must be true or false
        log setting 'log_verbose_level' is -1; it must be a whole number of at least 0
        log setting 'log_format' is "foo"; it must be "default", "ISO8601" or "json"
        log file location can not be updated through network protocol
        unknown log setting 'nosuch': use log_info, log_warning, log_error, log_verbose_level or log_format
        "#);
    }
}
