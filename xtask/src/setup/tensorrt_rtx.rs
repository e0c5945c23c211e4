//! Extracts the plug-in with NVIDIA TensorRT for RTX from its Python wheel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{
    folder::create_once,
    libraries::missing,
    pip::{ANY_PYTHON, Progress, download, unpack_all},
};
use crate::project::root;

const REQUIREMENTS: &str = "xtask/python/tensorrt-rtx.txt";

/// Whether TensorRT for RTX runs on GPUs of this compute capability, by NVIDIA's support matrix.
pub(super) fn supports(major: i32, minor: i32) -> bool {
    matches!((major, minor), (7, 5) | (8, 6) | (8, 9) | (12, _))
}

/// Installs the plug-in and what it needs in a folder beside ONNX Runtime, where the server looks for it. Returns its folder.
///
/// # Errors
/// When Python, pip or a C compiler is missing, the package registry cannot be reached, or a library is missing afterwards.
pub(crate) fn tensorrt_rtx(onnxruntime: &Path) -> anyhow::Result<PathBuf> {
    let folder = onnxruntime.join(quintet_onnxruntime::TENSORRT_RTX_FOLDER);
    create_once(&folder, &root().join(REQUIREMENTS), unpack)?;
    Ok(folder)
}

fn unpack(folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    eprintln!("downloading TensorRT for RTX: 146 MB, 315 MB on the disk, once");
    let temporary = folder.join("download");
    let extra_args = [&ANY_PYTHON[..], &["--require-hashes"]].concat();
    download(&temporary, requirements, &["manylinux_2_28_x86_64"], &extra_args, Progress::Shown).context(
        "cannot download TensorRT for RTX: this needs Python 3 with pip, and access to its package registry",
    )?;
    unpack_all(&temporary, &temporary)?;
    let from = temporary.join("onnxruntime_ep_nv_tensorrt_rtx");
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(linked_name) {
            fs::rename(&path, folder.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
    write_alias(folder)?;
    let missing = missing(folder, |_| true)?;
    ensure!(missing.is_empty(), "{} lacks {}", folder.display(), missing.join(", "));
    Ok(())
}

/// The name by which libraries are linked with a file of the wheel, which has them under their whole version:
/// `libtensorrt_rtx.so.1` for `libtensorrt_rtx.so.1.7.1`. `None` for a file that is no library.
fn linked_name(file: &str) -> Option<String> {
    let (name, version) = file.split_once(".so")?;
    match version.strip_prefix('.') {
        Some(version) => Some(format!("{name}.so.{}", version.split('.').next()?)),
        None => version.is_empty().then(|| file.to_owned()),
    }
}

/// Writes `libtensorrt_rtx.so`, a library without code that is linked with `libtensorrt_rtx.so.1`. TensorRT opens itself by
/// the first name when it loads its plug-ins; the dynamic loader then takes a library that is open under it.
fn write_alias(folder: &Path) -> anyhow::Result<()> {
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-nostdlib", "-Wl,--no-as-needed,-soname,libtensorrt_rtx.so"]);
    compiler.args(["-o", "libtensorrt_rtx.so", "-L.", "-l:libtensorrt_rtx.so.1"]);
    let status = compiler.current_dir(folder).status().context("cannot run the C compiler, cc")?;
    ensure!(status.success(), "cc cannot link {}/libtensorrt_rtx.so: {status}", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_for_the_gpus_of_its_support_matrix() {
        let supported = [(7, 5), (8, 6), (8, 9), (12, 0), (12, 1)];
        assert!(supported.iter().all(|&(major, minor)| supports(major, minor)));
        // V100, A100, Jetson Orin, H100 and H200, B200.
        let others = [(7, 0), (8, 0), (8, 7), (9, 0), (10, 0)];
        assert!(others.iter().all(|&(major, minor)| !supports(major, minor)));
    }

    #[test]
    fn libraries_get_the_names_that_others_are_linked_with() {
        let names = [
            ("libtensorrt_rtx.so.1.7.1", Some("libtensorrt_rtx.so.1")),
            ("libcudart.so.13.4.36", Some("libcudart.so.13")),
            ("libtensorrt_plugins.so", Some("libtensorrt_plugins.so")),
            ("tensorrt_rtx_provider_options.h", None),
            ("README.txt", None),
        ];
        for (file, name) in names {
            assert_eq!(linked_name(file).as_deref(), name, "{file}");
        }
    }
}
