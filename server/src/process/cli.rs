//! The command line: what runs, and how the process begins and ends.

use std::{future::Future, io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::{
    observe::logging,
    process::{check, memory, settings, suite, triton},
};

/// Serves image models over KServe HTTP and gRPC, and over HTTP with base64 JPEG.
///
/// With --model-repository and no subcommand it takes NVIDIA Triton's place: one service for the models of
/// a repository, on Triton's ports and under Triton's flags.
///
/// Logs go to stderr. Exit status: 0 stopped by a signal and drained, 1 stopped with requests
/// unanswered, 2 it could not start.
#[derive(Debug, Parser)]
#[command(name = "quintet-server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    triton: triton::Flags,
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
    Health(check::Check),
}

/// Does what the command line asks for.
///
/// # Errors
/// When settings are wrong or the server cannot start.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let flags = match cli.command {
        Some(Command::Suite(flags)) => flags,
        Some(Command::Health(flags)) => return check::run(&flags),
        None => {
            logging::start(cli.triton.logging())?;
            return block_on(triton::run(&cli.triton));
        }
    };
    let settings = flags.resolve()?;
    if flags.print_config {
        let printed = toml::to_string(&settings).context("cannot print the settings")?;
        std::io::stdout().write_all(printed.as_bytes()).context("stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::start(logging::Settings { format: settings.log_format.into(), ..logging::Settings::default() })?;
    block_on(suite::run(&settings))
}

fn block_on(run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    memory::keep_large_buffers();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(run);
    // Whatever still runs was given up already.
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_tritons_is_no_subcommand() {
        let read = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(read("quintet-server --model-repository /m --http-port=8000").unwrap().command.is_none());
        assert!(read("quintet-server suite --model-repository /m").unwrap().command.is_some());
        assert!(read("quintet-server --http-port=8000 suite").is_err());
    }
}
