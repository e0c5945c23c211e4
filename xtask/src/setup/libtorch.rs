//! Extracts libtorch for the CPU from PyTorch's wheel.

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

const REQUIREMENTS: &str = "xtask/python/libtorch.txt";

/// Installs libtorch. Returns its folder, for the variable `LIBTORCH`.
///
/// # Errors
/// When Python or pip is missing, the package registry cannot be reached, or no wheel is pinned for this platform.
pub(crate) fn libtorch() -> anyhow::Result<PathBuf> {
    let folder = root().join(".quintet/libtorch");
    create_once(&folder, &root().join(REQUIREMENTS), unpack)?;
    Ok(folder)
}

/// Extracts the headers and libraries from PyTorch's wheel, and from other wheels the two CUDA libraries that
/// libtorch_cpu.so is linked with.
fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    if (OS, ARCH) != ("linux", "x86_64") {
        bail!("no PyTorch wheel is pinned for {OS} on {ARCH}: unpack libtorch 2.13 and set LIBTORCH");
    }
    let temporary = folder.join("download");
    let platforms = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"];
    download(&temporary, requirements, &platforms, &ANY_PYTHON, Progress::Shown)
        .context("cannot download PyTorch: this needs Python 3 with pip, and access to its package registry")?;
    unpack_all(&temporary, &temporary)?;
    let libraries = folder.join("lib");
    fs::create_dir_all(&libraries)?;
    fs::rename(temporary.join("torch/include"), folder.join("include")).context("the wheel has no headers")?;
    let torch = ["libtorch_cpu.so", "libc10.so", "libgomp.so.1"].map(|name| temporary.join("torch/lib").join(name));
    let cuda = ["libcudart.so.13", "libcupti.so.13"].map(|name| temporary.join("nvidia/cu13/lib").join(name));
    for library in torch.into_iter().chain(cuda) {
        let name = library.file_name().unwrap_or_default();
        fs::rename(&library, libraries.join(name)).with_context(|| library.display().to_string())?;
    }
    // A linker script: the wheel's own libtorch.so is linked with the CUDA libraries too.
    fs::write(libraries.join("libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())
}
