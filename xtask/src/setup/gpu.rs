//! Installs what the lanes need on a GPU besides its driver: ONNX Runtime's GPU build, CUDA 13 and cuDNN 9, and TensorRT for
//! RTX where it runs.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::{
    folder::create_once,
    libraries::missing,
    pip::{ANY_PYTHON, Progress, download, unpack_all},
    tensorrt_rtx::{supports, tensorrt_rtx},
};
use crate::project::root;

const REQUIREMENTS: &str = "xtask/python/gpu.txt";
/// The CUDA version of the wheels, and the first driver that runs it.
const CUDA: (i32, &str) = (13, "580");
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
    /// As `On`, and TensorRT for RTX.
    Rtx,
    /// Run on the CPU.
    Off,
}

impl Gpu {
    /// The value of the variable `GPU`, which `make demo GPU=off` sets.
    ///
    /// # Errors
    /// For any other value than `auto`, `on`, `rtx` and `off`.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        match std::env::var("GPU").as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("on") => Ok(Self::On),
            Ok("rtx") => Ok(Self::Rtx),
            Ok("off") => Ok(Self::Off),
            Ok(other) => bail!("GPU={other}: use auto, on, rtx or off"),
        }
    }
}

/// Installs the libraries into [`quintet_onnxruntime::GPU_FOLDER`] if `gpu` says so. Says on stderr what the machine has.
///
/// # Errors
/// When Python or pip is missing, the package registry cannot be reached, or a library is missing afterwards.
pub(super) fn install(gpu: Gpu) -> anyhow::Result<()> {
    let wanted = match gpu {
        Gpu::Auto => usable(),
        Gpu::On => Some(Wanted { rtx: false }),
        Gpu::Rtx => Some(Wanted { rtx: true }),
        Gpu::Off => None,
    };
    if let Some(Wanted { rtx }) = wanted {
        let folder = gpu_libraries()?;
        if rtx {
            tensorrt_rtx(&folder)?;
        }
    }
    Ok(())
}

/// What a GPU needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    /// Whether TensorRT for RTX, beside CUDA.
    rtx: bool,
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

/// What the machine's GPUs need, if it has one and a driver that is new enough. If not, says why the lanes run on the CPU.
fn usable() -> Option<Wanted> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        // A machine without a GPU is no news.
        Err(nvml_wrapper::error::NvmlError::LibloadingError(_)) => return None,
        Err(error) => {
            eprintln!("NVIDIA's driver does not answer ({error}): the lanes run on the CPU");
            return None;
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
        return None;
    }
    let device = nvml.device_by_index(0).and_then(|device| Ok((device.name()?, device.cuda_compute_capability()?)));
    match device {
        Ok((name, capability)) => {
            let (major, minor) = (capability.major, capability.minor);
            eprintln!("{name}, compute capability {major}.{minor}, NVIDIA driver {driver}");
            Some(Wanted { rtx: supports(major, minor) })
        }
        Err(error) => {
            eprintln!("NVIDIA driver {driver} shows no GPU ({error}): the lanes run on the CPU");
            None
        }
    }
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
    // Classic TensorRT has no wheel, and is used where it is installed.
    let missing = missing(folder, |name| !name.contains("_tensorrt"))?;
    ensure!(missing.is_empty(), "{} lacks {}", folder.display(), missing.join(", "));
    Ok(())
}
