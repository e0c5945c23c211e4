//! Triton's flags for traces of requests.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::kserve::trace::{Collector, Mode, Target, Traces, Update, Waiting};

/// Selects the requests to trace, and where the traces go.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TraceFlags {
    /// Setting for traces of requests; may be repeated. Settings: level=TIMESTAMPS, level=TENSORS, rate=N, count=N,
    /// triton,file=PATH, triton,log-frequency=N, triton,max-waiting-traces=N (default 4096),
    /// triton,max-waiting-bytes=N (of tensors; default 64 MiB), mode=opentelemetry, opentelemetry,url=URL,
    /// opentelemetry,resource=KEY=VALUE, opentelemetry,bsp_max_queue_size=N
    #[arg(long, value_name = "[MODE,]KEY=VALUE")]
    trace_config: Vec<String>,
    /// Triton's old name for --trace-config triton,file=PATH
    #[arg(long, hide = true)]
    trace_file: Option<String>,
    /// Triton's old name for --trace-config level=LEVEL
    #[arg(long, hide = true)]
    trace_level: Vec<String>,
    /// Triton's old name for --trace-config rate=N
    #[arg(long, hide = true)]
    trace_rate: Option<String>,
    /// Triton's old name for --trace-config count=N
    #[arg(long, hide = true, allow_hyphen_values = true)]
    trace_count: Option<String>,
    /// Triton's old name for --trace-config triton,log-frequency=N
    #[arg(long, hide = true)]
    trace_log_frequency: Option<String>,
}

/// The settings that the flags give.
#[derive(Default)]
struct TraceConfig {
    file: Option<PathBuf>,
    collector: Collector,
    mode: Mode,
    waiting: Waiting,
    update: Update,
}

impl TraceConfig {
    /// Applies a setting, `[MODE,]KEY=VALUE`.
    ///
    /// # Errors
    /// When it is unknown, or its value is wrong.
    fn set(&mut self, text: &str) -> anyhow::Result<()> {
        let wrong = |reason: &str| anyhow::anyhow!("--trace-config '{text}': {reason}");
        let (setting, value) = text.split_once('=').unwrap_or((text, ""));
        let (mode, name) = setting.split_once(',').map_or((None, setting), |(mode, name)| (Some(mode), name));
        match (mode.map(Mode::from_name).transpose()?, name) {
            (None, "mode") => self.mode = Mode::from_name(value)?,
            (None | Some(Mode::Triton), "level" | "rate" | "count") => {
                self.update.entry(format!("trace_{name}")).or_default().push(value.to_owned());
            }
            (None, _) => {
                return Err(wrong(
                    "unknown setting; use level, rate, count, mode, or a setting of a mode, such as triton,file",
                ));
            }
            (Some(Mode::Triton), "file") => self.file = Some(PathBuf::from(value)),
            (Some(Mode::Triton), "log-frequency") => {
                self.update.entry("log_frequency".into()).or_default().push(value.to_owned());
            }
            (Some(Mode::Triton), "max-waiting-traces" | "max-waiting-bytes") => {
                let limit = value.parse().ok().filter(|&limit| limit > 0);
                let limit = limit.ok_or_else(|| wrong("use a whole number of at least 1"))?;
                *if name == "max-waiting-bytes" { &mut self.waiting.bytes } else { &mut self.waiting.traces } = limit;
            }
            (Some(Mode::Triton), _) => {
                return Err(wrong("unknown setting; use file, log-frequency, max-waiting-traces or max-waiting-bytes"));
            }
            (Some(Mode::OpenTelemetry), _) => self.collector.set(name, value).map_err(|reason| wrong(&reason))?,
        }
        Ok(())
    }
}

impl TraceFlags {
    /// The traces that the flags ask for.
    ///
    /// # Errors
    /// When a setting or value is unknown, or a thread cannot be started.
    pub(super) fn traces(&self) -> anyhow::Result<Traces> {
        let mut config = TraceConfig::default();
        let old = [
            ("triton,file", &self.trace_file),
            ("rate", &self.trace_rate),
            ("count", &self.trace_count),
            ("triton,log-frequency", &self.trace_log_frequency),
        ];
        let old = old.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        let old = old.chain(self.trace_level.iter().map(|level| format!("level={level}")));
        for text in old.chain(self.trace_config.iter().cloned()) {
            config.set(&text)?;
        }
        let TraceConfig { file, collector, mode, waiting, update } = config;
        let target = match mode {
            Mode::Triton => Target::File(file),
            Mode::OpenTelemetry => Target::Collector(collector),
        };
        let traces = Traces::new(target, waiting).context("cannot start a thread for traces")?;
        traces.update(None, &update).context("--trace-config")?;
        Ok(traces)
    }
}
