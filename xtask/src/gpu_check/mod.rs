//! `cargo xtask gpu-check`: checks the suite on a GPU (providers, parity with the CPU, engine cache, CUDA graphs) and
//! benchmarks it, in one report.

mod report;
mod subject;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};

use self::{
    report::{Graphs, Report, Starts},
    subject::{Subject, files},
};
use crate::{project::root, suite::MODELS};

/// Exit status without a GPU.
const NO_GPU: u8 = 3;
const REPORT: &str = "results/gpu-check.md";

/// Runs the checks and writes [`REPORT`]. Exit status: 0 if every lane runs on the expected provider and agrees with
/// the CPU, 1 if one does not, 3 without a GPU. With `without_gpu` the check runs without a GPU, to test the check
/// itself: the lanes must then run on the CPU.
///
/// # Errors
/// When a download or build fails, or the server does not become ready.
pub(crate) fn gpu_check(arch: &str, without_gpu: bool) -> anyhow::Result<ExitCode> {
    let gpu = match gpu() {
        Ok(gpu) => gpu,
        Err(reason) if !without_gpu => {
            eprintln!("there is no GPU to check: {reason:#}");
            return Ok(ExitCode::from(NO_GPU));
        }
        Err(reason) => format!("none: {reason:#}"),
    };
    let subject = Subject::prepare(arch, without_gpu)?;
    let report = check(&subject, gpu)?;
    let text = report.markdown()?;
    let path = root().join(REPORT);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&path, &text).with_context(|| path.display().to_string())?;
    std::io::stdout().write_all(text.as_bytes())?;
    eprintln!("written: {REPORT}");
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves the model on the CPU for the reference, twice on the GPU for the engine cache, and once with CUDA graphs.
fn check<'a>(subject: &'a Subject<'a>, gpu: String) -> anyhow::Result<Report<'a>> {
    let models = Path::new(MODELS);
    let start = |flags: &[&str]| subject.start(models, Stdio::inherit(), flags);
    let (mut cpu, _) = start(&["--jpeg-providers=cpu", "--onnx-providers=cpu", "--trt-providers=cpu"])?;
    subject.compare_with_flags(&cpu, &[])?;
    cpu.stop()?;
    let (mut cold, cold_s) = start(&[])?;
    cold.stop()?;
    let engines = files(&subject.engines())?;
    let (mut server, warm_s) = start(&[])?;
    let lanes = subject.compare(&server)?;
    let starts = Starts { cold_s, warm_s, engines, engines_after_restart: files(&subject.engines())? };
    let five_lanes = subject.bench(&server, &[])?;
    let in_process = subject.compare_with_in_process(&server)?;
    server.stop()?;
    Ok(Report { subject, gpu, lanes, starts, five_lanes, in_process, graphs: with_graphs(subject)? })
}

fn with_graphs(subject: &Subject<'_>) -> anyhow::Result<Graphs> {
    let log = subject.folder.join("graphs.log");
    let (mut server, _) = subject.start(&subject.repository_with_graphs()?, fs::File::create(&log)?.into(), &[])?;
    let lanes = subject.compare(&server)?;
    let bench = subject.bench(&server, &["--skip", "jpeg,trt"])?;
    server.stop()?;
    Ok(Graphs { lanes, bench, log: fs::read_to_string(log)? })
}

/// Name, driver and memory of each GPU.
fn gpu() -> anyhow::Result<String> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output().context("cannot run nvidia-smi")?;
    let found = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    if !output.status.success() || found.is_empty() {
        bail!("nvidia-smi found no GPU: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(found)
}
