//! What a GPU makes of the suite: where lanes run, parity with the CPU, engine cache, the five-way run. One report.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{
    server::{SUITE, Server},
    setup, suite,
};

/// Exit status where there is no GPU to check.
const NO_GPU: u8 = 3;
const REPORT: &str = "results/gpu-check.md";
const PHOTO: &str = "photos/astronaut.jpg";

/// Checks, and writes [`REPORT`]. Exit status: 0 all lanes run where they should and agree, 1 one does not,
/// 3 there is no GPU. `without` goes on all the same, to try the check itself: then lanes should run on the CPU.
///
/// # Errors
/// When something cannot be built, set up or served.
pub(crate) fn gpu_check(arch: &str, without: bool) -> anyhow::Result<ExitCode> {
    let gpu = match gpu() {
        Ok(gpu) => gpu,
        Err(why) if !without => {
            eprintln!("there is no GPU to check: {why:#}");
            return Ok(ExitCode::from(NO_GPU));
        }
        Err(why) => format!("none: {why:#}"),
    };
    let hidden: &[&str] = if without { &["--without-gpu"] } else { &[] };
    setup::setup(true)?;
    let library = setup::gpu_library()?;
    let program = suite::prepare(arch)?;
    let folder = crate::project::root().join(".quintet/gpu-check");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder)?;
    let (reference, engines) = (folder.join("reference.npz"), folder.join("engines"));
    let start_on = |repository: &Path, log: Stdio, flags: &[&str]| {
        let mut command = suite::server_command(&program, repository, arch);
        command.stderr(log).arg("--onnxruntime").arg(&library).arg("--engine-cache").arg(&engines).args(flags);
        if without {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        let started = Instant::now();
        Server::start(command, SUITE).map(|server| (server, started.elapsed().as_secs_f64()))
    };
    let start = |flags: &[&str]| start_on(Path::new(suite::MODELS), Stdio::inherit(), flags);

    let (mut cpu, _) = start(&["--jpeg-providers=cpu", "--onnx-providers=cpu", "--trt-providers=cpu"])?;
    compare(&cpu, arch, &reference, &[])?;
    cpu.stop()?;
    let (mut cold, cold_seconds) = start(&[])?;
    cold.stop()?;
    let kept = files(&engines)?;
    let (mut server, warm_seconds) = start(&[])?;
    let (lanes, agree) = compare(&server, arch, &reference, hidden)?;
    let again = files(&engines)?;
    // A restart finds every engine, and builds none.
    let are_kept = again == kept && (without || !kept.is_empty());
    let measured = suite::bench_command(&server, arch).output().context("cannot start the benchmark")?;
    let in_process = over_in_process(&server, arch, &library, without)?;
    server.stop()?;

    let (graphs, log) = (repository_with_graphs(&folder, arch)?, folder.join("graphs.log"));
    let (mut server, _) = start_on(&graphs, fs::File::create(&log)?.into(), &[])?;
    let (lanes_with_graphs, agree_with_graphs) = compare(&server, arch, &reference, hidden)?;
    let mut bench = suite::bench_command(&server, arch);
    let with_graphs = bench.args(["--skip", "jpeg,trt"]).output().context("cannot start the benchmark")?;
    server.stop()?;
    let log = fs::read_to_string(log)?;
    let recorded = log.matches("CUDA graph recorded").count();
    let refusals: Vec<_> = log.lines().filter(|line| line.contains("no CUDA graph")).collect();

    let mut report = String::new();
    if without {
        writeln!(
            report,
            "**This is no GPU check.** It was run with `--without-gpu`, which tries the check itself on the CPU.\n"
        )?;
    }
    writeln!(report, "# GPU check of {arch}\n\nGPU: {gpu}  \nONNX Runtime: {}\n", library.display())?;
    writeln!(report, "## Lanes\n\n{lanes}\n## Start\n\n| start | ready after | engine files |\n|---|---|---|")?;
    writeln!(report, "| no engines yet | {cold_seconds:.1} s | {} |", kept.len())?;
    writeln!(report, "| again | {warm_seconds:.1} s | {} |\n", again.len())?;
    let verdict = match (kept.is_empty(), are_kept) {
        (_, false) => "The restart did not find the engines that it needs",
        (true, true) => "There are no engines without TensorRT",
        (false, true) => "The restart found every engine, and built none",
    };
    writeln!(report, "{verdict}.\n")?;
    kept.iter()
        .try_for_each(|file| writeln!(report, "- `{}`", file.strip_prefix(&engines).unwrap_or(file).display()))?;
    let told = |output: &Output| format!("\n```\n{}```", String::from_utf8_lossy(&output.stdout));
    writeln!(report, "\n## Five lanes\n{}", told(&measured))?;
    writeln!(report, "\n## The server over the run in process\n{}", told(&in_process))?;
    writeln!(report, "\n## CUDA graphs\n\nRecorded: {recorded}.\n\n{lanes_with_graphs}")?;
    refusals.iter().try_for_each(|line| writeln!(report, "- `{line}`"))?;
    writeln!(report, "{}", told(&with_graphs))?;
    let path = crate::project::root().join(REPORT);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&path, &report).with_context(|| path.display().to_string())?;
    std::io::stdout().write_all(report.as_bytes())?;
    eprintln!("written: {REPORT}");
    let agree = agree && agree_with_graphs && (without || recorded > 0);
    let are_measured = [measured, in_process, with_graphs].iter().all(|output| output.status.success());
    Ok(if agree && are_kept && are_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the onnx lanes cost over the model in a process alone, on the same provider, from batch 1 to 32.
fn over_in_process(server: &Server, arch: &str, library: &Path, without: bool) -> anyhow::Result<Output> {
    let models = crate::project::program("release", "quintet-models");
    let gpu = if without { "" } else { " --gpu 0" };
    let (models, library) = (models.display(), library.display());
    let alone = format!("{models} time --repository {} --model {arch} --onnxruntime {library}{gpu}", suite::MODELS);
    // Embedding and classes.
    let answers = if ["resnet18", "resnet34"].contains(&arch) { "1512" } else { "3048" };
    let ports = server.ports();
    let target = format!("onnx=http://127.0.0.1:{},grpc://127.0.0.1:{}", ports["onnx-http"], ports["onnx-grpc"]);
    let mut command = Command::new(crate::project::program("release", "quintet-bench"));
    command.args(["floor", "--target", &target, "--model", arch, "--images", "image", "--in-process", &alone]);
    command.args(["--reply-elements", answers, "--payload", "1,4,8,16,32", "--concurrency", "1", "--window", "500ms"]);
    command.current_dir(crate::project::root());
    command.stderr(Stdio::inherit()).output().context("cannot start the benchmark")
}

/// A repository in which the model asks for CUDA graphs.
fn repository_with_graphs(folder: &Path, arch: &str) -> anyhow::Result<PathBuf> {
    const GRAPHS: &str = "\noptimization { execution_accelerators { gpu_execution_accelerator [ \
                          { name: \"cuda\" parameters { key: \"enable_cuda_graph\" value: \"1\" } } ] } }\n";
    let (from, to) = (crate::project::root().join(suite::MODELS).join(arch), folder.join("models").join(arch));
    fs::create_dir_all(to.parent().unwrap_or(folder))?;
    let copied = Command::new("cp").arg("-r").args([&from, &to]).status().context("cannot start cp")?;
    if !copied.success() {
        bail!("cannot copy {}", from.display());
    }
    let config = to.join("config.pbtxt");
    let text = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    fs::write(&config, text + GRAPHS)?;
    Ok(folder.join("models"))
}

/// Name, driver and memory of the GPUs, one after the other.
fn gpu() -> anyhow::Result<String> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output().context("nvidia-smi does not run")?;
    let told = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    if !output.status.success() || told.is_empty() {
        bail!("nvidia-smi finds none: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(told)
}

/// The table of `gpu_check.py`, and whether it has nothing against it.
fn compare(server: &Server, arch: &str, reference: &Path, more: &[&str]) -> anyhow::Result<(String, bool)> {
    let output = Command::new(crate::project::root().join(".quintet/venv/bin/python"))
        .arg("xtask/python/gpu_check.py")
        .arg(serde_json::to_string(server.ports())?)
        .args([arch, PHOTO])
        .arg(reference)
        .args(more)
        .current_dir(crate::project::root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start gpu_check.py")?;
    match output.status.code() {
        Some(0 | 3) => Ok((String::from_utf8(output.stdout)?, output.status.success())),
        _ => bail!("gpu_check.py failed: {}", output.status),
    }
}

/// The files of a folder and those in it, sorted; none where it is not there.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}
