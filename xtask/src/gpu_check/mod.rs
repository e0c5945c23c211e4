//! `cargo xtask gpu-check`: checks the suite on a GPU (providers, parity with the CPU, engine cache, CUDA graphs) and
//! benchmarks it, on one page.

mod host;
mod pack;
mod page;
mod run;
mod sanity;
mod subject;

use std::{fs, io::Write as _, path::Path, process::ExitCode};

use anyhow::Context as _;

pub(crate) use pack::pack;
pub(crate) use subject::Options;

use self::{
    host::Host,
    page::{Graphs, Page, Starts},
    subject::{Subject, files},
};
use crate::{project::root, suite::MODELS};

/// Exit status without a GPU.
const NO_GPU: u8 = 3;
const PAGE: &str = "results/gpu-check.md";

/// Runs the checks and writes [`PAGE`]. Exit status: 0 if every lane runs where it should and agrees with the CPU, 1 if one
/// does not, 3 without a GPU.
///
/// # Errors
/// When a download or build fails, or a server does not become ready.
pub(crate) fn gpu_check(arch: &str, options: Options) -> anyhow::Result<ExitCode> {
    let gpu = match host::gpus() {
        Ok(gpus) => gpus,
        Err(reason) if !options.without_gpu => {
            eprintln!("there is no GPU to check: {reason:#}");
            return Ok(ExitCode::from(NO_GPU));
        }
        Err(reason) => format!("none: {reason:#}"),
    };
    let subject = Subject::prepare(arch, options)?;
    let page = check(&subject, Host::of_this_machine(gpu, &subject.library))?;
    let text = page.markdown();
    let path = root().join(PAGE);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&path, &text).with_context(|| path.display().to_string())?;
    std::io::stdout().write_all(text.as_bytes())?;
    eprintln!("written: {PAGE}");
    Ok(if page.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves the model twice for the engine cache, and once with CUDA graphs; beside it, on the CPU, what its outputs are compared
/// with.
fn check(subject: &Subject<'_>, host: Host) -> anyhow::Result<Page> {
    let models = Path::new(MODELS);
    let mut cpu = subject.start_on_cpu()?;
    let (mut server, cold_s) = subject.start(models, None, &[])?;
    server.stop()?;
    let engines = files(&subject.engines())?;
    let (mut server, warm_s) = subject.start(models, None, &[])?;
    let lanes = subject.compare(&server, &cpu)?;
    // While times are measured nothing else is on the machine.
    cpu.stop()?;
    let engines_after_restart = files(&subject.engines())?;
    let five_lanes = subject.bench(&server, "five-lanes", &[])?;
    let in_process = subject.compare_with_in_process(&server)?;
    server.stop()?;
    let relative = |files: Vec<std::path::PathBuf>| -> Vec<String> {
        let engines = subject.engines();
        files.iter().map(|file| file.strip_prefix(&engines).unwrap_or(file).display().to_string()).collect()
    };
    let starts =
        Starts { cold_s, warm_s, engines: relative(engines), engines_after_restart: relative(engines_after_restart) };
    let graphs = with_graphs(subject)?;
    Ok(Page {
        arch: subject.arch.to_owned(),
        without_gpu: subject.options.without_gpu,
        host,
        lanes,
        starts,
        five_lanes,
        in_process,
        graphs,
    })
}

fn with_graphs(subject: &Subject<'_>) -> anyhow::Result<Graphs> {
    let log = subject.folder.join("graphs.log");
    let mut cpu = subject.start_on_cpu()?;
    let (mut server, _) = subject.start(&subject.repository_with_graphs()?, Some(&log), &[])?;
    let lanes = subject.compare(&server, &cpu)?;
    cpu.stop()?;
    let bench = subject.bench(&server, "graphs", &["--skip", "jpeg,trt"])?;
    server.stop()?;
    let log = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).map(str::to_owned).collect::<Vec<_>>();
    Ok(Graphs { lanes, bench, recorded: lines("CUDA graph recorded").len(), not_recorded: lines("no CUDA graph") })
}
