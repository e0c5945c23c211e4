//! ONNX Runtime's library, out of its Python wheel.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{
    folder::once,
    pip::{ANY_PYTHON, download, unpack_all},
};
use crate::project::root;

/// Where [`gpu_library`] puts it, below the project's root.
const GPU_FOLDER: &str = ".quintet/onnxruntime-gpu";
const REQUIREMENTS: &str = "xtask/python/onnxruntime.txt";
const GPU_REQUIREMENTS: &str = "xtask/python/onnxruntime-gpu.txt";

/// The library for the CPU, where the server looks for it by default.
pub(super) fn cpu_library() -> anyhow::Result<()> {
    once(&root().join(quintet_onnxruntime::FOLDER), &root().join(REQUIREMENTS), library)
}

/// The library with the CUDA and TensorRT providers, beside the other one. Returns its folder.
///
/// # Errors
/// When Python or pip is missing, or the registry cannot be reached.
pub(crate) fn gpu_library() -> anyhow::Result<PathBuf> {
    let folder = root().join(GPU_FOLDER);
    once(&folder, &root().join(GPU_REQUIREMENTS), library)?;
    Ok(folder)
}

fn library(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    let temporary = folder.join("download");
    // The library is the same in the wheels of every Python version: one is named.
    let more = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, platforms()?, &more)
        .context("cannot fetch ONNX Runtime; Python 3 with pip is needed, and its package registry")?;
    unpack_all(&temporary, &temporary)?;
    let mut libraries = 0;
    for entry in fs::read_dir(temporary.join("onnxruntime/capi"))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("libonnxruntime") {
            fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
            libraries += 1;
        }
    }
    if libraries == 0 {
        bail!("the wheel of {} holds no libonnxruntime", requirements.display());
    }
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())
}

/// The wheel's platform tags.
fn platforms() -> anyhow::Result<&'static [&'static str]> {
    Ok(match (OS, ARCH) {
        ("linux", "x86_64") => &["manylinux_2_28_x86_64"],
        ("linux", "aarch64") => &["manylinux_2_28_aarch64"],
        ("macos", "aarch64") => &["macosx_14_0_arm64"],
        _ => bail!("no wheel of ONNX Runtime is pinned for {OS} on {ARCH}: build it and set ORT_DYLIB_PATH"),
    })
}
