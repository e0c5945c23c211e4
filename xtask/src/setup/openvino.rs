//! Extracts the plug-in with OpenVINO's execution provider from its Python wheel.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::{
    folder::create_once,
    pip::{ANY_PYTHON, Progress, download, unpack_all},
};
use crate::project::root;

const REQUIREMENTS: &str = "xtask/python/openvino.txt";

/// Installs the plug-in and the libraries that it needs. Returns their folder.
///
/// # Errors
/// When Python or pip is missing, the package registry cannot be reached, or the platform has no wheel.
pub(crate) fn openvino() -> anyhow::Result<PathBuf> {
    ensure!(
        (OS, ARCH) == ("linux", "x86_64"),
        "the OpenVINO plug-in exists for Linux on x86-64, not for {OS} on {ARCH}"
    );
    let folder = root().join(".quintet/openvino");
    create_once(&folder, &root().join(REQUIREMENTS), unpack)?;
    Ok(folder)
}

fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    let temporary = folder.join("download");
    let extra_args = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, &["manylinux_2_28_x86_64"], &extra_args, Progress::Hidden)
        .context("cannot download OpenVINO: this needs Python 3 with pip, and access to its package registry")?;
    unpack_all(&temporary, &temporary)?;
    let from = temporary.join("onnxruntime_ep_openvino");
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // The plug-in is there three times; OpenVINO's GPU part reads cache.json.
        if (name.contains(".so") && !name.contains("plugin.so.")) || name == "cache.json" {
            fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())
}
