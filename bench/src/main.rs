//! The program `quintet-bench`: its entry point.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    quintet_bench::cli::command::main().await
}
