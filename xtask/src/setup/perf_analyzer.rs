//! Triton's perf_analyzer and the libraries that it needs but does not bring.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{
    folder::once,
    pip::{download, text, unpack_all},
};
use crate::{process::run, project::root};

const REQUIREMENTS: &str = "xtask/python/perf-analyzer.txt";

/// The program, and the folders of its libraries.
pub(crate) struct PerfAnalyzer {
    program: PathBuf,
    libraries: Vec<PathBuf>,
}

/// Fetches it where it is not there yet.
///
/// # Errors
/// When the registry cannot be reached, or it does not run on this system.
pub(crate) fn perf_analyzer() -> anyhow::Result<PerfAnalyzer> {
    let folder = root().join(".quintet/perf-analyzer");
    let program = PerfAnalyzer {
        program: folder.join("tritonclient-2.51.0.data/data/bin/perf_analyzer"),
        libraries: vec![
            folder.join("usr/lib").join(format!("{ARCH}-linux-gnu")),
            folder.join("nvidia/cuda_runtime/lib"),
        ],
    };
    once(&folder, &root().join(REQUIREMENTS), |folder, requirements| program.unpack(folder, requirements))?;
    Ok(program)
}

impl PerfAnalyzer {
    /// A call of the program, without arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let libraries: Vec<_> = self.libraries.iter().map(|folder| folder.as_os_str()).collect();
        command.env("LD_LIBRARY_PATH", libraries.join(":".as_ref()));
        command
    }

    fn unpack(&self, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
        let temporary = folder.join("download");
        download(&temporary, requirements, &["manylinux1_x86_64", "manylinux2014_x86_64"], &[])
            .context("cannot fetch perf_analyzer, which there is for Linux on x86-64 only")?;
        unpack_all(&temporary, folder)?;
        fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
        run("chmod", &["+x", text(&self.program)?])?;
        if self.check().is_err() {
            unpack_debian("libb64-0d", folder)?;
        }
        self.check()
    }

    /// Says what it lacks, if it does not start.
    fn check(&self) -> anyhow::Result<()> {
        let output = self.command().arg("--version").output().context("cannot start perf_analyzer")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// Unpacks a Debian package without installing it.
fn unpack_debian(package: &str, folder: &Path) -> anyhow::Result<()> {
    let script = format!("cd '{}' && apt-get download -qq {package} && dpkg-deb -x {package}*.deb .", folder.display());
    run("sh", &["-c", &script]).with_context(|| format!("install the library of the Debian package {package}"))
}
