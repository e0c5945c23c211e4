//! `cargo xtask gpu-pack`: what `gpu-check --prebuilt` needs, in parts, for a machine without a network.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::{
    process::run,
    project::{program, root},
    setup,
    suite::{self, MODELS},
};

/// The file in the packed folder with the commit that it was made from.
pub(super) const COMMIT: &str = "COMMIT";

/// Bytes of a part.
const PART: &str = "60M";

/// What the parts are called; split adds a number to each.
const PARTS: &str = "quintet.tar.xz.";

/// What is run on the other machine.
const SCRIPT: &str = include_str!("unpack-and-check");

/// Builds the programs and the model, and writes them with the GPU's libraries into parts of [`PART`] and a script that puts them
/// together and runs the check. The libraries of CUDA and cuDNN themselves stay out with `without_cuda`: the script then takes
/// those of a Python environment there.
///
/// # Errors
/// When a download or build fails, or tar, xz or split does.
pub(crate) fn pack(arch: &str, to: &Path, without_cuda: bool) -> anyhow::Result<()> {
    let libraries = setup::gpu_libraries()?;
    setup::tensorrt_rtx(&libraries)?;
    suite::prepare(arch)?;
    run("cargo", &["build", "--release", "-p", "xtask"])?;
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let to = to.canonicalize().with_context(|| to.display().to_string())?;
    ensure!(fs::read_dir(&to)?.next().is_none(), "{} is not empty", to.display());
    let commit = root().join(".quintet/COMMIT");
    let head = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output()?;
    fs::write(&commit, head.stdout)?;
    let programs = ["quintet-server", "quintet-bench", "quintet-models", "xtask"].map(|name| program("release", name));
    let model = PathBuf::from(MODELS).join(arch);
    let mut files: Vec<PathBuf> =
        programs.iter().map(|path| path.strip_prefix(root()).unwrap_or(path).into()).collect();
    files.extend([quintet_onnxruntime::GPU_FOLDER.into(), model, "photos".into(), ".quintet/COMMIT".into()]);
    write_parts(&root(), &files, without_cuda, &to)?;
    let script = to.join("unpack-and-check");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    run("sh", &["-c", "cd \"$1\" && sha256sum quintet.tar.xz.* >SHA256SUMS", "sh", &to.display().to_string()])?;
    eprintln!(
        "written: {}\nCarry its files to one folder of the other machine, and run there: ./unpack-and-check",
        to.display()
    );
    Ok(())
}

/// Writes the files below `from` as parts of one compressed archive.
fn write_parts(from: &Path, files: &[PathBuf], without_cuda: bool, to: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    // The transform puts the file with the commit where the check looks for it.
    tar.args(["--create", "--file=-", "--transform=s,^.quintet/COMMIT,COMMIT,"]).current_dir(from);
    if without_cuda {
        tar.args(CUDA.map(|name| format!("--exclude={}/{name}", quintet_onnxruntime::GPU_FOLDER)));
    }
    let mut tar = tar.args(files).stdout(Stdio::piped()).spawn().context("cannot run tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let mut xz = Command::new("xz");
    let mut xz =
        xz.args(["--threads=0", "-1"]).stdin(archive).stdout(Stdio::piped()).spawn().context("cannot run xz")?;
    let compressed = xz.stdout.take().context("xz has no output")?;
    let mut split = Command::new("split");
    split.args(["--bytes", PART, "--numeric-suffixes", "--suffix-length=3", "-", PARTS]).current_dir(to);
    let split = split.stdin(compressed).status().context("cannot run split")?;
    let statuses = [("tar", tar.wait()?), ("xz", xz.wait()?), ("split", split)];
    for (name, status) in statuses {
        ensure!(status.success(), "{name} failed: {status}");
    }
    Ok(())
}

/// The libraries of CUDA and cuDNN, as the shell's patterns.
const CUDA: [&str; 5] = ["libcublas*", "libcudart*", "libcudnn*", "libcurand*", "libnvrtc*"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts are put together as the script does it, in another folder.
    #[test]
    fn what_was_packed_is_there_after_unpacking() {
        let [from, to, there] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let gpu = from.path().join(quintet_onnxruntime::GPU_FOLDER);
        fs::create_dir_all(&gpu).unwrap();
        for name in ["libonnxruntime.so.1.31.1", "libcublas.so.13"] {
            fs::write(gpu.join(name), name).unwrap();
        }
        fs::write(from.path().join(".quintet/COMMIT"), "0123abc\n").unwrap();
        let files = [quintet_onnxruntime::GPU_FOLDER.into(), ".quintet/COMMIT".into()];
        write_parts(from.path(), &files, true, to.path()).unwrap();
        let unpack = format!("cat {}/{PARTS}* | xz --decompress | tar --extract", to.path().display());
        assert!(Command::new("sh").args(["-c", &unpack]).current_dir(there.path()).status().unwrap().success());
        assert_eq!(fs::read_to_string(there.path().join(COMMIT)).unwrap(), "0123abc\n");
        let unpacked = there.path().join(quintet_onnxruntime::GPU_FOLDER);
        assert!(unpacked.join("libonnxruntime.so.1.31.1").exists() && !unpacked.join("libcublas.so.13").exists());
    }
}
