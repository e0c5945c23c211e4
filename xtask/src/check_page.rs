//! `cargo xtask check-page`: uses the server's page in headless Chromium, as a person would, and takes pictures of it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

/// Serves the suite, measures it twice for the page to show, and drives the page, then `examples/ask.html`. Without Chromium nothing is run, and a
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
    let examples = Examples::serve()?;
    command.arg("--results").arg(&results).arg("--allow-origin").arg(&examples.origin);
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
        .arg(format!("{}/ask.html", examples.origin))
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

/// Python's server of files, with the examples; dropping it ends the process.
struct Examples {
    process: Child,
    /// Such as `http://127.0.0.1:8080`.
    origin: String,
}

impl Examples {
    /// Serves the folder on a free port, with the command that `examples/ask.html` names.
    fn serve() -> anyhow::Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind=127.0.0.1", "--directory=examples"]).current_dir(root());
        let process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start python3")?;
        let mut examples = Self { process, origin: String::new() };
        let mut line = String::new();
        let stdout = examples.process.stdout.take().context("python3 has no stdout")?;
        BufReader::new(stdout).read_line(&mut line).context("python3 -m http.server")?;
        // "Serving HTTP on 127.0.0.1 port 8080 (http://127.0.0.1:8080/) ..."
        let address = line.split(['(', ')']).nth(1).with_context(|| format!("no address in '{line}'"))?;
        address.trim_end_matches('/').clone_into(&mut examples.origin);
        Ok(examples)
    }
}

impl Drop for Examples {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
