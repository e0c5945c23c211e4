//! Set-up: ONNX Runtime's library out of its Python wheel, and the Python packages of the tests.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    perf_analyzer::{Client, unpack},
    process::run,
};

/// Where [`gpu_library`] puts it, below the project's root.
const GPU_FOLDER: &str = ".quintet/onnxruntime-gpu";
/// The interpreter that pip and venv belong to.
const PYTHON: &str = "python3";
const REQUIREMENTS: &str = "xtask/python/onnxruntime.txt";
const GPU_REQUIREMENTS: &str = "xtask/python/onnxruntime-gpu.txt";
const TORCH_REQUIREMENTS: &str = "xtask/python/libtorch.txt";
const TEST_REQUIREMENTS: &str = "xtask/python/tests.txt";
const PERF_ANALYZER_REQUIREMENTS: &str = "xtask/python/perf-analyzer.txt";
const SYSTEM_PYTHON: &str = "/usr/bin/python3";
const TRITON_REQUIREMENTS: &str = "xtask/python/triton.txt";
const DEPLOY_REQUIREMENTS: &str = "xtask/python/deploy.txt";

/// Makes what is missing; what is there, and made for these requirements, stays.
///
/// # Errors
/// When Python or pip is missing, or the registry cannot be reached.
pub(crate) fn setup(tests: bool) -> anyhow::Result<()> {
    let root = crate::root();
    once(&root.join(quintet_onnxruntime::FOLDER), &root.join(REQUIREMENTS), library)?;
    if tests {
        once(&root.join(".quintet/venv"), &root.join(TEST_REQUIREMENTS), packages)?;
    }
    Ok(())
}

/// The library with the CUDA and TensorRT providers, beside the other one. Returns its folder.
///
/// # Errors
/// As [`setup`].
pub(crate) fn gpu_library() -> anyhow::Result<PathBuf> {
    let folder = crate::root().join(GPU_FOLDER);
    once(&folder, &crate::root().join(GPU_REQUIREMENTS), library)?;
    Ok(folder)
}

/// libtorch without its CUDA half, as a folder for `LIBTORCH`. Returns the folder.
///
/// # Errors
/// As [`setup`].
pub(crate) fn libtorch() -> anyhow::Result<PathBuf> {
    let folder = crate::root().join(".quintet/libtorch");
    once(&folder, &crate::root().join(TORCH_REQUIREMENTS), unpack_libtorch)?;
    Ok(folder)
}

/// Takes headers and libraries out of PyTorch's wheel, and the two CUDA libraries that even its CPU half is
/// linked with out of theirs.
fn unpack_libtorch(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    if (OS, ARCH) != ("linux", "x86_64") {
        bail!("no wheel of PyTorch is pinned for {OS} on {ARCH}: unpack libtorch 2.13 and set LIBTORCH");
    }
    let download = folder.join("download");
    let arguments = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    let only = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"];
    let platforms = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"];
    let platforms = platforms.iter().flat_map(|platform| ["--platform", platform]);
    let files = ["--dest", text(&download)?, "--requirement", text(requirements)?];
    let all: Vec<_> = arguments.into_iter().chain(only).chain(platforms).chain(files).collect();
    run(PYTHON, &all).context("cannot fetch PyTorch; Python 3 with pip is needed, and its package registry")?;
    for wheel in fs::read_dir(&download)?.collect::<Result<Vec<_>, _>>()? {
        run(PYTHON, &["-m", "zipfile", "--extract", text(&wheel.path())?, text(&download)?])?;
    }
    let libraries = folder.join("lib");
    fs::create_dir_all(&libraries)?;
    fs::rename(download.join("torch/include"), folder.join("include")).context("the wheel has no headers")?;
    let torch = ["libtorch_cpu.so", "libc10.so", "libgomp.so.1"].map(|name| download.join("torch/lib").join(name));
    let cuda = ["libcudart.so.13", "libcupti.so.13"].map(|name| download.join("nvidia/cu13/lib").join(name));
    for library in torch.into_iter().chain(cuda) {
        let name = library.file_name().unwrap_or_default();
        fs::rename(&library, libraries.join(name)).with_context(|| library.display().to_string())?;
    }
    // A script for the linker: the wheel's own libtorch.so asks for the CUDA half, too.
    fs::write(libraries.join("libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
    fs::remove_dir_all(&download).with_context(|| download.display().to_string())
}

/// The Python of a virtual environment with what the deployment's checks run.
///
/// # Errors
/// As [`setup`].
pub(crate) fn deploy_python() -> anyhow::Result<PathBuf> {
    let folder = crate::root().join(".quintet/deploy-venv");
    once(&folder, &crate::root().join(DEPLOY_REQUIREMENTS), packages)?;
    Ok(folder.join("bin/python"))
}

/// The Python of a virtual environment with the genuine tritonserver. Its Python backend is linked with the system's
/// Python, so that is what it takes.
///
/// # Errors
/// As [`setup`].
pub(crate) fn triton_python() -> anyhow::Result<PathBuf> {
    let folder = crate::root().join(".quintet/triton-venv");
    let make = |folder: &Path, requirements: &Path| install(SYSTEM_PYTHON, folder, requirements);
    once(&folder, &crate::root().join(TRITON_REQUIREMENTS), make)?;
    Ok(folder.join("bin/python"))
}

/// Triton's perf_analyzer and the libraries that it needs but does not bring.
///
/// # Errors
/// As [`setup`], and where it does not run on this system.
pub(crate) fn perf_analyzer() -> anyhow::Result<Client> {
    let folder = crate::root().join(".quintet/perf-analyzer");
    let client = Client {
        program: folder.join("tritonclient-2.51.0.data/data/bin/perf_analyzer"),
        libraries: vec![
            folder.join("usr/lib").join(format!("{ARCH}-linux-gnu")),
            folder.join("nvidia/cuda_runtime/lib"),
        ],
    };
    once(&folder, &crate::root().join(PERF_ANALYZER_REQUIREMENTS), |folder, requirements| {
        let download = folder.join("download");
        let arguments = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
        let platforms = ["--only-binary=:all:", "--platform=manylinux1_x86_64", "--platform=manylinux2014_x86_64"];
        let paths = ["--dest", text(&download)?, "--requirement", text(requirements)?];
        run(PYTHON, &[&arguments[..], &platforms, &paths].concat())
            .context("cannot fetch perf_analyzer, which there is for Linux on x86-64 only")?;
        for entry in fs::read_dir(&download)? {
            run(PYTHON, &["-m", "zipfile", "--extract", text(&entry?.path())?, text(folder)?])?;
        }
        fs::remove_dir_all(&download).with_context(|| download.display().to_string())?;
        run("chmod", &["+x", text(&client.program)?])?;
        if client.check().is_err() {
            unpack("libb64-0d", folder)?;
        }
        client.check()
    })?;
    Ok(client)
}

/// Makes a folder unless it was made for these very requirements. A folder is finished when it holds a
/// copy of them, which is written last.
fn once(
    folder: &Path,
    requirements: &Path,
    make: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = folder.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|made_for| made_for == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    make(folder, requirements)?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    eprintln!("set up: {}", folder.display());
    Ok(())
}

/// The wheel's platform tags. The library is the same in the wheels of every Python version: one is named.
fn platforms() -> anyhow::Result<&'static [&'static str]> {
    Ok(match (OS, ARCH) {
        ("linux", "x86_64") => &["manylinux_2_28_x86_64"],
        ("linux", "aarch64") => &["manylinux_2_28_aarch64"],
        ("macos", "aarch64") => &["macosx_14_0_arm64"],
        _ => bail!("no wheel of ONNX Runtime is pinned for {OS} on {ARCH}: build it and set ORT_DYLIB_PATH"),
    })
}

fn library(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    let download = folder.join("download");
    let (download_text, requirements) = (text(&download)?, text(requirements)?);
    let mut arguments = vec!["-m", "pip", "download", "--quiet", "--disable-pip-version-check"];
    arguments.extend(["--no-deps", "--only-binary=:all:", "--implementation=cp", "--python-version=3.12"]);
    for platform in platforms()? {
        arguments.extend(["--platform", platform]);
    }
    arguments.extend(["--require-hashes", "--dest", download_text, "--requirement", requirements]);
    run(PYTHON, &arguments)
        .context("cannot fetch ONNX Runtime; Python 3 with pip is needed, and its package registry")?;
    let wheel = only_file(&download)?;
    run(PYTHON, &["-m", "zipfile", "--extract", text(&wheel)?, download_text])?;
    let mut libraries = 0;
    for entry in fs::read_dir(download.join("onnxruntime/capi"))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("libonnxruntime") {
            fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
            libraries += 1;
        }
    }
    if libraries == 0 {
        bail!("{} holds no libonnxruntime", wheel.display());
    }
    fs::remove_dir_all(&download).with_context(|| download.display().to_string())
}

fn packages(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    install(PYTHON, folder, requirements)
}

fn install(python: &str, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    run(python, &["-m", "venv", "--clear", text(folder)?])
        .context("cannot make a virtual environment; on Debian the package python3-venv has what is needed")?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(folder.join("bin/python"), &[&arguments[..], &[text(requirements)?]].concat())
}

fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let first = entries.next().with_context(|| format!("pip left nothing in {}", folder.display()))?;
    Ok(first?.path())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
