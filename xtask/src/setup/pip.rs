//! Downloads and unpacks wheels with pip, and installs packages in virtual environments.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::process::run;

/// The interpreter that runs pip and venv.
pub(super) const PYTHON: &str = "python3";
/// Flags of `pip download` that select wheels for one version of Python, independent of the version that runs pip.
pub(super) const ANY_PYTHON: [&str; 2] = ["--implementation=cp", "--python-version=3.12"];

/// Whether a download shows how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Hidden,
    Shown,
}

/// Downloads the wheels of the requirements for these platforms into the folder `to`.
///
/// # Errors
/// When pip is missing, the package registry cannot be reached, or it does not have a wheel.
pub(super) fn download(
    to: &Path,
    requirements: &Path,
    platforms: &[&str],
    extra_args: &[&str],
    progress: Progress,
) -> anyhow::Result<()> {
    let arguments = ["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"];
    let quiet = (progress == Progress::Hidden).then_some("--quiet");
    let platforms = platforms.iter().flat_map(|platform| ["--platform", platform]);
    let paths = ["--only-binary=:all:", "--dest", text(to)?, "--requirement", text(requirements)?];
    let extra_args = extra_args.iter().copied();
    let all: Vec<_> = arguments.into_iter().chain(quiet).chain(platforms).chain(extra_args).chain(paths).collect();
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

/// Creates a virtual environment and installs the requirements in it.
///
/// # Errors
/// When venv or pip is missing, or the package registry cannot be reached.
pub(super) fn install(python: &str, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    run(python, &["-m", "venv", "--clear", text(folder)?])
        .context("cannot create a virtual environment; on Debian install the package python3-venv")?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(folder.join("bin/python"), &[&arguments[..], &[text(requirements)?]].concat())
}

/// A path as a command-line argument.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
