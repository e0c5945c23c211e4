//! Entry point of `quintet-models`; the command line is in [`quintet_models::cli`].

use std::process::ExitCode;

use clap::Parser as _;
use quintet_models::cli::{Cli, run};

fn main() -> ExitCode {
    // SAFETY: the program has just started, and has no other thread.
    unsafe { quintet_onnxruntime::disable_telemetry() };
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
