//! `quintet-bench`: drives the five lanes side by side.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    quintet_bench::cli::command::main().await
}
