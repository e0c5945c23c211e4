//! pip: wheels are downloaded and unpacked, or installed in a virtual environment.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::process::run;

/// The interpreter that pip and venv belong to.
pub(super) const PYTHON: &str = "python3";
/// Flags of `pip download` for wheels of one version of Python, whichever runs here.
pub(super) const ANY_PYTHON: [&str; 2] = ["--implementation=cp", "--python-version=3.12"];

/// Downloads the wheels of the requirements for these platforms into a folder.
///
/// # Errors
/// When pip is missing, or the package registry cannot be reached or lacks a wheel.
pub(super) fn download(to: &Path, requirements: &Path, platforms: &[&str], more: &[&str]) -> anyhow::Result<()> {
    let arguments = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    let platforms = platforms.iter().flat_map(|platform| ["--platform", platform]);
    let paths = ["--only-binary=:all:", "--dest", text(to)?, "--requirement", text(requirements)?];
    let all: Vec<_> = arguments.into_iter().chain(platforms).chain(more.iter().copied()).chain(paths).collect();
    run(PYTHON, &all)
}

/// Unpacks every wheel in `from` into `to`.
///
/// # Errors
/// When a wheel is damaged.
pub(super) fn unpack_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let wheels = fs::read_dir(from).with_context(|| from.display().to_string())?.collect::<Result<Vec<_>, _>>()?;
    for wheel in wheels {
        run(PYTHON, &["-m", "zipfile", "--extract", text(&wheel.path())?, text(to)?])?;
    }
    Ok(())
}

/// Makes a virtual environment with the requirements.
///
/// # Errors
/// When venv or pip is missing, or the package registry cannot be reached.
pub(super) fn install(python: &str, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    run(python, &["-m", "venv", "--clear", text(folder)?])
        .context("cannot make a virtual environment; on Debian the package python3-venv has what is needed")?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(folder.join("bin/python"), &[&arguments[..], &[text(requirements)?]].concat())
}

/// A path as an argument.
///
/// # Errors
/// When it is not UTF-8.
pub(super) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
