//! `cargo xtask fuzz`: libFuzzer searches for inputs that break a target of the crate `fuzz`.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};

use crate::{
    process::{command, exit_code},
    project::root,
};

/// What cargo-fuzz passes: counters and compared values for libFuzzer, and AddressSanitizer. The latter needs
/// `RUSTC_BOOTSTRAP` on a stable compiler.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
     -Clink-dead-code --cfg fuzzing -Zsanitizer=address";

/// Everything of this command below the project's folder: the build, the inputs that were found, and the failures.
const FOLDER: &str = "target/fuzz";

/// Inputs of other tests that a target starts from, too.
const MORE_INPUTS: [(&str, &str); 1] = [("images", "preprocess/reference/inputs")];

/// Fuzzes a target, or all of them one after the other, for this many seconds each. Returns the status of the first
/// that fails; its input is in `target/fuzz/failures`.
///
/// # Errors
/// When there is no such target, or the build fails.
pub(crate) fn fuzz(target: Option<&str>, seconds: u64, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    let corpora = root().join("fuzz/corpus");
    let mut targets: Vec<String> = fs::read_dir(&corpora)
        .with_context(|| corpora.display().to_string())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    targets.sort();
    if let Some(target) = target {
        ensure!(targets.iter().any(|name| name == target), "no target '{target}', only {}", targets.join(", "));
        targets = vec![target.to_owned()];
    }
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().context("cannot run rustc")?;
    let host = String::from_utf8(host.stdout)?.trim().to_owned();
    build(&host)?;
    let program = root().join(FOLDER).join(host).join("fuzz/libfuzzer");
    for name in &targets {
        eprintln!("\n== {name}, {seconds} s");
        let status = run(&program, name, seconds, extra_args)?;
        if !status.success() {
            eprintln!("{name} failed: move the input from {FOLDER}/failures/{name} to fuzz/corpus/{name}");
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build(host: &str) -> anyhow::Result<()> {
    let status = command("cargo")
        .args(["build", "--package=quintet-fuzz", "--bin=libfuzzer", "--features=libfuzzer", "--profile=fuzz"])
        .args([&format!("--target={host}"), &format!("--target-dir={FOLDER}")])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the build failed: {status}");
    Ok(())
}

fn run(program: &Path, name: &str, seconds: u64, extra_args: &[String]) -> anyhow::Result<std::process::ExitStatus> {
    let (found, failures) =
        (root().join(FOLDER).join("corpus").join(name), root().join(FOLDER).join("failures").join(name));
    for folder in [&found, &failures] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let more = MORE_INPUTS.iter().filter(|(target, _)| target == &name).map(|(_, folder)| root().join(folder));
    Command::new(program)
        .env("QUINTET_FUZZ_TARGET", name)
        .args([&format!("-max_total_time={seconds}"), "-timeout=30", "-rss_limit_mb=2048", "-malloc_limit_mb=256"])
        // Large inputs are slow, and threads that end just then look like leaks.
        .args(["-max_len=16384", "-detect_leaks=0"])
        .args(["-print_final_stats=1", &format!("-artifact_prefix={}/", failures.display())])
        .args(extra_args)
        // What is found goes into the first folder.
        .args([found, root().join("fuzz/corpus").join(name)].into_iter().chain(more))
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))
}
