//! `cargo xtask bench-triton`: benchmarks the suite and the stock tritonserver together, and checks the report.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{
    process::{build_programs, exit_code, run},
    server::{SUITE, Server},
    setup,
    suite::MODELS,
};

const MODEL: &str = "resnet18";
const SCRIPT: &str = "bench/tests/python/stock_triton.py";

/// Serves the model with both servers and benchmarks them. Returns the script's exit status: 0 if the report is
/// correct.
///
/// # Errors
/// When a download or build fails, or a server does not become ready.
pub(crate) fn bench_triton() -> anyhow::Result<ExitCode> {
    setup::setup(false)?;
    let python = setup::triton_python()?;
    build_programs()?;
    let program = |name| crate::project::program("debug", name);
    run(program("quintet-models"), &["build", "--arch", MODEL, "--variants", "fp32", "--output", MODELS])?;
    let mut suite = Command::new(program("quintet-server"));
    suite.args(["suite", "--model-repository", MODELS, "--model", MODEL]).current_dir(crate::project::root());
    let mut suite = Server::start(suite, SUITE)?;
    let mut script = Command::new(python);
    script.arg(SCRIPT).arg(format!("{MODELS}/{MODEL}/1/model.onnx")).arg(program("quintet-bench"));
    script.args(suite.ports().iter().map(|(listener, port)| format!("--{listener}-url=http://127.0.0.1:{port}")));
    let status =
        script.current_dir(crate::project::root()).status().with_context(|| format!("cannot start {SCRIPT}"))?;
    suite.stop()?;
    Ok(exit_code(status))
}
