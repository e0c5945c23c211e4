//! `cargo xtask check-page`: uses the server's page in headless Chromium, as a person would, and takes pictures of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::{
    process::build_programs,
    project::{program, root},
    server::{SUITE, Server},
    setup::setup,
    suite::{MODELS, build_model, server_command, with_pixels},
};

/// The model of the check.
const ARCH: &str = "resnet18";

/// The browser, if no program is named by [`VARIABLE`]; the first that is found.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Names the browser's program.
const VARIABLE: &str = "CHROMIUM";

/// A run for the page to show: the least that has a figure for each lane.
const RUN: [&str; 10] = [
    "run",
    "--model",
    ARCH,
    "--batches=1",
    "--iterations=4",
    "--blocks=2",
    "--concurrency",
    "--warmup=1",
    "--max-warmup=1",
    "--payload=fp32",
];

/// Serves the suite, measures it twice for the page to show, and drives the page. Without Chromium nothing is run, and a
/// line says so.
///
/// # Errors
/// When a build fails, the server does not become ready, or the page is not as it should be.
pub(crate) fn check_page() -> anyhow::Result<()> {
    let Some(browser) = browser() else {
        let names = BROWSERS.join(", ");
        eprintln!("NOT RUN: there is no Chromium ({names}); install it (apt-get install chromium) or set {VARIABLE}");
        return Ok(());
    };
    setup(false)?;
    build_programs()?;
    build_model("debug", ARCH, "fp32,u8")?;
    let folder = root().join("target/page");
    let results = folder.join("results");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&results).with_context(|| folder.display().to_string())?;
    let mut command = server_command(&program("debug", "quintet-server"), Path::new(MODELS), &with_pixels(ARCH));
    command.arg("--results").arg(&results);
    let mut server = Server::start(command, SUITE)?;
    for _ in 0..2 {
        measure(&server, &results)?;
    }
    let status = Command::new("python3")
        .arg(root().join("xtask/python/check_page.py"))
        .arg(browser)
        .arg(format!("http://127.0.0.1:{}", server.ports()["jpeg"]))
        .arg(root().join("photos/rocket.jpg"))
        .arg(&folder)
        .status()
        .context("cannot start check_page.py: it needs Python 3.10 or later")?;
    ensure!(status.success(), "the page is not as it should be");
    server.stop()
}

/// The browser's program.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Some(named.into());
    }
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let found = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    BROWSERS.iter().find_map(found)
}

/// Benchmarks the lanes into a folder of `results`.
fn measure(server: &Server, results: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program("debug", "quintet-bench"));
    command.args(RUN).arg("--output").arg(results).current_dir(root()).stdout(std::io::stderr());
    for (listener, port) in server.ports() {
        command.arg(format!("--{listener}-url=http://127.0.0.1:{port}"));
    }
    let status = command.status().context("cannot start the benchmark")?;
    ensure!(status.success(), "the benchmark failed: {status}");
    Ok(())
}
