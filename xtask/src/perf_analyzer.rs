//! `cargo xtask perf-analyzer`: benchmarks the server with Triton's perf_analyzer, over both protocols, with tensors in
//! messages and in shared memory, in closed and open loop.

use std::{
    collections::HashMap,
    fs,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    server::{Server, TRITON},
    setup::{PerfAnalyzer, perf_analyzer},
    suite::{MODELS, prepare},
};

/// Columns with the server's own breakdown of the time, in microseconds.
const BREAKDOWN: [&str; 4] = ["Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output"];

/// Serves `arch` as a Triton repository, benchmarks it with perf_analyzer, and prints a table.
///
/// # Errors
/// When a download or build fails, the server does not become ready, a run fails, or the server's breakdown of the time
/// is empty.
#[allow(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn measure(arch: &str, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    let client = perf_analyzer()?;
    let server = prepare(arch)?;
    let mut command = Command::new(server);
    command.args(["--model-repository", MODELS, "--model-control-mode=explicit", "--load-model", arch]);
    command.arg("--allow-client-shm=true").current_dir(crate::project::root());
    let mut server = Server::start(command, &TRITON)?;
    println!("| protocol | tensors | load | inferences/s | p50 us | p99 us | queue us | in us | infer us | out us |");
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for protocol in ["http", "grpc"] {
        for memory in ["none", "system"] {
            for load in ["--concurrency-range=2", "--request-rate-range=10"] {
                let address = format!("localhost:{}", server.ports()[protocol]);
                let arguments = ["-m", arch, "-i", protocol, "-u", &address, load, "--shared-memory", memory];
                let row = row(&client, &arguments, extra_args).with_context(|| arguments.join(" "))?;
                println!("| {protocol} | {memory} | {} | {row} |", &load[2..]);
            }
        }
    }
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs perf_analyzer once and formats the columns of its report as the end of a table row.
fn row(client: &PerfAnalyzer, arguments: &[&str], extra_args: &[String]) -> anyhow::Result<String> {
    let report = std::env::temp_dir().join(format!("quintet-perf-analyzer-{}.csv", std::process::id()));
    let mut command = client.command();
    command.args(arguments).args(["--measurement-interval=2000", "--stability-percentage=50", "-f"]).arg(&report);
    let output = command.args(extra_args).stdin(Stdio::null()).output().context("cannot start perf_analyzer")?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    let text = fs::read_to_string(&report).with_context(|| report.display().to_string())?;
    fs::remove_file(&report).with_context(|| report.display().to_string())?;
    let columns = first_line(&text)?;
    let value = |column: &str| columns.get(column).copied().with_context(|| format!("no column '{column}' in {text}"));
    let breakdown = BREAKDOWN.map(value).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(breakdown[2] > 0.0, "the server reported no compute time: {text}");
    let values =
        [value("Inferences/Second")?, value("p50 latency")?, value("p99 latency")?].into_iter().chain(breakdown);
    Ok(values.map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(" | "))
}

/// The numeric columns of the report's first line, by name.
fn first_line(report: &str) -> anyhow::Result<HashMap<&str, f64>> {
    let mut lines = report.lines();
    let (header, line) = lines.next().zip(lines.next()).context("perf_analyzer's report is empty")?;
    Ok(header
        .split(',')
        .zip(line.split(','))
        .filter_map(|(column, value)| Some((column, value.parse().ok()?)))
        .collect())
}
