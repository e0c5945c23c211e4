//! Installs what the lanes need on a GPU besides its driver: ONNX Runtime's GPU build, CUDA 13 and cuDNN 9.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::{
    folder::create_once,
    pip::{ANY_PYTHON, Progress, download, unpack_all},
};
use crate::project::root;

const REQUIREMENTS: &str = "xtask/python/gpu.txt";
/// The CUDA version of the wheels, and the first driver that runs it.
const CUDA: (i32, &str) = (13, "580");
/// Libraries of the driver, which no wheel has.
const OF_THE_DRIVER: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];
/// The wheels' libraries that the lanes use, by the beginning of their names.
const WANTED: [&str; 7] =
    ["libonnxruntime", "libcudart.so", "libnvrtc.so", "libnvrtc-builtins.so", "libcublas", "libcurand.so", "libcudnn"];

/// Whether the lanes are to run on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gpu {
    /// If the machine has one that can be used.
    Auto,
    /// Install the libraries even if it has none.
    On,
    /// Run on the CPU.
    Off,
}

impl Gpu {
    /// The value of the variable `GPU`, which `make demo GPU=off` sets.
    ///
    /// # Errors
    /// For any other value than `auto`, `on` and `off`.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        match std::env::var("GPU").as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("on") => Ok(Self::On),
            Ok("off") => Ok(Self::Off),
            Ok(other) => bail!("GPU={other}: use auto, on or off"),
        }
    }
}

/// Installs the libraries into [`quintet_onnxruntime::GPU_FOLDER`] if `gpu` says so. Says on stderr what the machine has.
///
/// # Errors
/// When Python or pip is missing, the package registry cannot be reached, or a library is missing afterwards.
pub(super) fn install(gpu: Gpu) -> anyhow::Result<()> {
    if gpu == Gpu::On || (gpu == Gpu::Auto && is_usable()) { gpu_libraries().map(drop) } else { Ok(()) }
}

/// Installs the libraries, whatever the machine has. Returns their folder.
///
/// # Errors
/// As [`install`].
pub(crate) fn gpu_libraries() -> anyhow::Result<PathBuf> {
    let folder = root().join(quintet_onnxruntime::GPU_FOLDER);
    ensure!((OS, ARCH) == ("linux", "x86_64"), "the GPU libraries exist for Linux on x86-64, not for {OS} on {ARCH}");
    create_once(&folder, &root().join(REQUIREMENTS), unpack)?;
    Ok(folder)
}

/// Whether the machine has a GPU and a driver that is new enough. If not, says why the lanes run on the CPU.
fn is_usable() -> bool {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        // A machine without a GPU is no news.
        Err(nvml_wrapper::error::NvmlError::LibloadingError(_)) => return false,
        Err(error) => {
            eprintln!("NVIDIA's driver does not answer ({error}): the lanes run on the CPU");
            return false;
        }
    };
    let driver = nvml.sys_driver_version().unwrap_or_else(|error| error.to_string());
    let version = nvml.sys_cuda_driver_version().unwrap_or(0);
    let (major, minor) = (cuda_driver_version_major(version), cuda_driver_version_minor(version));
    if major < CUDA.0 {
        eprintln!(
            "NVIDIA driver {driver} is for CUDA {major}.{minor}; CUDA {} needs driver {} or newer: the lanes run on the CPU",
            CUDA.0, CUDA.1
        );
        return false;
    }
    let name = nvml.device_by_index(0).and_then(|device| device.name());
    match name {
        Ok(name) => eprintln!("{name}, NVIDIA driver {driver}"),
        Err(error) => eprintln!("NVIDIA driver {driver} shows no GPU ({error}): the lanes run on the CPU"),
    }
    nvml.device_count().is_ok_and(|count| count > 0)
}

fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    eprintln!("downloading ONNX Runtime, CUDA 13 and cuDNN 9: 1.2 GB, 1.7 GB on the disk, once");
    let temporary = folder.join("download");
    let platforms = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux2010_x86_64"];
    let extra_args = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, &platforms, &extra_args, Progress::Shown).context(
        "cannot download the GPU libraries: this needs Python 3 with pip, and access to its package registry",
    )?;
    unpack_all(&temporary, &temporary)?;
    let folders = ["onnxruntime/capi", "nvidia/cu13/lib", "nvidia/cudnn/lib"].map(|part| temporary.join(part));
    for from in folders {
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if WANTED.iter().any(|wanted| name.starts_with(wanted)) {
                fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
            }
        }
    }
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
    let missing = missing(folder)?;
    ensure!(missing.is_empty(), "{} lacks {}", folder.display(), missing.join(", "));
    Ok(())
}

/// What the libraries of a folder are linked with and neither it, the system nor the driver has. Without those of classic
/// TensorRT, which has no wheel and is used where it is installed.
fn missing(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains(".so") || name.contains("_tensorrt") {
            continue;
        }
        let output =
            Command::new("ldd").arg(&path).env("LD_LIBRARY_PATH", folder).output().context("cannot run ldd")?;
        missing
            .extend(not_found(&String::from_utf8_lossy(&output.stdout)).map(|library| format!("{library} for {name}")));
    }
    missing.sort();
    Ok(missing)
}

/// The libraries that `ldd` did not find, but for the driver's.
fn not_found(ldd: &str) -> impl Iterator<Item = &str> {
    let names = ldd.lines().filter_map(|line| line.trim().strip_suffix("=> not found")).map(str::trim);
    names.filter(|name| !OF_THE_DRIVER.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drivers_libraries_may_be_missing() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibcuda.so.1 => not found\n\tlibcublas.so.13 => not found\n\
                   \tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n";
        assert_eq!(not_found(ldd).collect::<Vec<_>>(), ["libcublas.so.13"]);
    }
}
