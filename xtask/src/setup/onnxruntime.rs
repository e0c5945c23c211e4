//! Extracts ONNX Runtime's library, and its licences, from its Python wheel.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{
    folder::create_once,
    pip::{ANY_PYTHON, Progress, download, unpack_all},
};
use crate::project::root;

/// The folder of [`gpu_library`], relative to the project's root.
const GPU_FOLDER: &str = ".quintet/onnxruntime-gpu";
const REQUIREMENTS: &str = "xtask/python/onnxruntime.txt";
const GPU_REQUIREMENTS: &str = "xtask/python/onnxruntime-gpu.txt";
/// What goes wherever the library goes.
const LICENCES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// Installs the CPU library in the folder where the server searches for it by default.
///
/// # Errors
/// When Python or pip is missing, or the package registry cannot be reached.
pub(super) fn cpu_library() -> anyhow::Result<()> {
    create_once(&root().join(quintet_onnxruntime::FOLDER), &root().join(REQUIREMENTS), unpack)
}

/// Installs the library with the CUDA and TensorRT providers. Returns its folder.
///
/// # Errors
/// When Python or pip is missing, or the package registry cannot be reached.
pub(crate) fn gpu_library() -> anyhow::Result<PathBuf> {
    let folder = root().join(GPU_FOLDER);
    create_once(&folder, &root().join(GPU_REQUIREMENTS), unpack)?;
    Ok(folder)
}

fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    let temporary = folder.join("download");
    // The wheels of all Python versions hold the same library.
    let extra_args = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, platforms()?, &extra_args, Progress::Hidden)
        .context("cannot download ONNX Runtime: this needs Python 3 with pip, and access to its package registry")?;
    unpack_all(&temporary, &temporary)?;
    for name in LICENCES {
        let path = temporary.join("onnxruntime").join(name);
        fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
    }
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
        bail!("the wheel in {} has no libonnxruntime", requirements.display());
    }
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())
}

/// The platform tags of the wheel for this platform.
fn platforms() -> anyhow::Result<&'static [&'static str]> {
    Ok(match (OS, ARCH) {
        ("linux", "x86_64") => &["manylinux_2_28_x86_64"],
        ("linux", "aarch64") => &["manylinux_2_28_aarch64"],
        ("macos", "aarch64") => &["macosx_14_0_arm64"],
        _ => bail!("no ONNX Runtime wheel is pinned for {OS} on {ARCH}: build the library and set ORT_DYLIB_PATH"),
    })
}
