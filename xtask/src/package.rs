//! `cargo xtask package`: an archive, a wheel and, on Linux, a Debian package of the release build, in `target/package`.

use std::{
    env::consts::OS,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    process::{build_release, run},
    project::{program, root},
    setup::{setup, text},
};

const PROGRAMS: [&str; 3] = ["quintet-server", "quintet-bench", "quintet-models"];
/// Where man pages and completions lie in each package, and beside the programs before they are packaged.
const SHARE: &str = "share";
/// A shell, where its completions lie in [`SHARE`], and what stands before and after a program's name there.
const COMPLETIONS: [(&str, &str, [&str; 2]); 3] = [
    ("bash", "bash-completion/completions", ["", ""]),
    ("zsh", "zsh/site-functions", ["_", ""]),
    ("fish", "fish/vendor_completions.d", ["", ".fish"]),
];
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Builds the release profile and packages it.
///
/// # Errors
/// When a build or one of the packagers fails: pip, tar, cargo-deb.
pub(crate) fn package() -> anyhow::Result<()> {
    // The Debian package has ONNX Runtime's library.
    setup(false)?;
    build_release()?;
    share(&program("release", SHARE))?;
    let folder = root().join("target/package");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    archive(&folder)?;
    wheel(&folder)?;
    if OS == "linux" {
        debian(&folder)?;
    }
    for entry in fs::read_dir(&folder)? {
        eprintln!("made: {}", entry?.path().display());
    }
    Ok(())
}

/// Has the programs write their man pages and completions, in the folders in which `man` and the shells look for them.
fn share(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages).with_context(|| pages.display().to_string())?;
    for name in PROGRAMS {
        run(program("release", name), &["man", text(&pages)?])?;
        for (shell, place, [before, after]) in COMPLETIONS {
            let output = Command::new(program("release", name)).args(["completions", shell]).output();
            let output = output.with_context(|| format!("cannot run {name}"))?;
            ensure!(output.status.success(), "{name} completions {shell}: {}", output.status);
            let place = folder.join(place);
            fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
            let file = place.join(format!("{before}{name}{after}"));
            fs::write(&file, output.stdout).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// `quintet-0.1.0-x86_64-unknown-linux-gnu.tar.gz`: one folder with the programs, the documents, man pages and completions.
fn archive(folder: &Path) -> anyhow::Result<()> {
    let name = format!("quintet-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let staged = folder.join(&name);
    fs::create_dir(&staged).with_context(|| staged.display().to_string())?;
    let programs = PROGRAMS.map(|name| (name, program("release", name)));
    let documents = DOCUMENTS.map(|name| (name, root().join(name)));
    for (name, from) in programs.iter().chain(&documents) {
        fs::copy(from, staged.join(name)).with_context(|| from.display().to_string())?;
    }
    run("cp", &["-R", text(&program("release", SHARE))?, text(&staged)?])?;
    let archive = folder.join(format!("{name}.tar.gz"));
    run("tar", &["--create", "--gzip", "--file", text(&archive)?, "--directory", text(folder)?, &name])?;
    fs::remove_dir_all(&staged).with_context(|| staged.display().to_string())
}

/// The target that this machine's compiler builds for.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc -vV: {}", output.status);
    let text = String::from_utf8(output.stdout).context("rustc -vV")?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc -vV names no host")
}

fn wheel(folder: &Path) -> anyhow::Result<()> {
    let programs = program("release", PROGRAMS[0]);
    let status = Command::new("python3")
        .args(["-m", "pip", "wheel", "--disable-pip-version-check", "--quiet", "--no-deps", "--wheel-dir"])
        .args([folder, Path::new("./python")])
        .env("QUINTET_PROGRAMS", programs.with_file_name(""))
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run pip")?;
    ensure!(status.success(), "pip cannot build the wheel: {status}");
    Ok(())
}

fn debian(folder: &Path) -> anyhow::Result<()> {
    if run("cargo", &["deb", "--version"]).is_err() {
        bail!("the Debian package needs cargo-deb: cargo install --locked cargo-deb");
    }
    run("cargo", &["deb", "--no-build", "--package", "quintet-server", "--output", text(folder)?])
}
