//! `quintet-server`: see [`quintet_server::process::cli`].

use std::process::ExitCode;

use clap::Parser as _;
use quintet_server::process::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
