//! The command line: what runs, and how the process begins and ends.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::{health, logging, settings, suite};

/// Serves image models over KServe HTTP and gRPC, and over HTTP with base64 JPEG.
///
/// Logs go to stderr. Exit status: 0 stopped by a signal and drained, 1 stopped with requests
/// unanswered, 2 it could not start.
#[derive(Debug, Parser)]
#[command(name = "quintet-server", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The five lanes: three services on seven ports in one process
    ///
    /// jpeg: base64 JPEG over HTTP (8002). onnx: KServe over HTTP (8010) and gRPC (8011), metrics (8012).
    /// trt: the same on the TensorRT provider (8020, 8021, 8022). Each service says what it really runs on.
    /// Flags win over QUINTET_* variables, these over the file given with --config.
    Suite(Box<settings::Flags>),
    /// Ask a running server whether it is ready; exit status 0 if so, 1 if not
    Health(health::Check),
}

/// Does what the command line asks for.
///
/// # Errors
/// When settings are wrong or the server cannot start.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let flags = match cli.command {
        Command::Suite(flags) => flags,
        Command::Health(check) => return health::run(&check),
    };
    let settings = flags.resolve()?;
    if flags.print_config {
        let printed = toml::to_string(&settings).context("cannot print the settings")?;
        std::io::stdout().write_all(printed.as_bytes()).context("stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::start(settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(suite::run(&settings));
    // Whatever still runs was given up already.
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}
