//! Log lines on stderr.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// The variable that sets the level.
const VARIABLE: &str = "QUINTET_LOG";

/// Starts logging; `verbose` shows this server's debug lines unless the variable says otherwise. ONNX
/// Runtime's own lines are shown from warnings on, as every library's.
///
/// # Errors
/// When `QUINTET_LOG` is not a filter, or logging was started before.
pub fn start(format: LogFormat, verbose: bool) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).with_context(|| format!("{VARIABLE} is '{text}', which is not a log filter"))?
        }
        _ if verbose => EnvFilter::new("warn,quintet_server=debug,quintet_engine=debug"),
        _ => EnvFilter::new("warn,quintet_server=info,quintet_engine=info"),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
