//! The command line: selects what to run, starts logging and the runtime, and returns the exit status.

use std::{future::Future, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    observe::logging,
    process::{check, files, memory, settings, suite, triton},
};

/// Serves image models over KServe (HTTP and gRPC), and takes photographs over plain HTTP.
///
/// Without a subcommand the server runs in Triton mode: it serves the models of --model-repository as one service,
/// with the ports and flags of NVIDIA Triton Inference Server. The subcommand `suite` serves the five lanes.
///
/// Logs go to stderr, or in Triton mode to --log-file.
///
/// Exit status: 0 if stopped by a signal with all requests answered, 1 if stopped with requests unanswered, 2 if the server could
/// not start, 3 if a GPU failed (--gpu-fault).
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
    /// Serve the five lanes: three services on seven ports in one process
    ///
    /// jpeg: photographs over HTTP, as files or base64 (port 8002). onnx: KServe over HTTP (8010) and gRPC (8011), metrics (8012).
    /// trt: the same with the TensorRT provider (8020, 8021, 8022). Each service reports the provider that really
    /// runs its models. A flag overrides its QUINTET_* variable, which overrides the file given with --config.
    Suite(Box<settings::Flags>),
    /// Ask a running server whether it is ready: exit status 0 if it is, 1 if it is not
    Health(check::Check),
    /// Print the completions of a shell
    ///
    /// bash reads them from ~/.local/share/bash-completion/completions/quintet-server, fish from
    /// ~/.config/fish/completions/quintet-server.fish, zsh from the file _quintet-server in a folder of its fpath.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a man page of each command into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which must exist
        folder: PathBuf,
    },
}

/// Runs the command that the command line names.
///
/// # Errors
/// When settings are wrong or the server cannot start.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let flags = match cli.command {
        Some(Command::Suite(flags)) => flags,
        Some(Command::Health(flags)) => return check::run(&flags),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quintet-server", &mut script);
            return print(&script);
        }
        Some(Command::Man { folder }) => {
            clap_mangen::generate_to(Cli::command(), &folder).with_context(|| folder.display().to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {
            logging::start(cli.triton.logging(), cli.triton.log_file.as_deref())?;
            return block_on(triton::run(&cli.triton));
        }
    };
    let settings = flags.resolve()?;
    if flags.print_config {
        return print(toml::to_string(&settings).context("cannot print the settings")?.as_bytes());
    }
    logging::start(logging::Settings { format: settings.log_format.into(), ..logging::Settings::default() }, None)?;
    block_on(suite::run(&settings))
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text).context("stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn block_on(run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    memory::keep_large_buffers();
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(run);
    // Tasks that still run were abandoned when the exit timeout ended.
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tritons_flags_need_no_subcommand() {
        let read = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(read("quintet-server --model-repository /m --http-port=8000").unwrap().command.is_none());
        assert!(read("quintet-server suite --model-repository /m").unwrap().command.is_some());
        assert!(read("quintet-server --http-port=8000 suite").is_err());
    }
}
