//! Installs Triton's perf_analyzer and the libraries that it is linked with.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{
    folder::create_once,
    pip::{Progress, download, text, unpack_all},
};
use crate::{process::run, project::root};

const REQUIREMENTS: &str = "xtask/python/perf-analyzer.txt";

/// The installed program, and the folders of its libraries.
pub(crate) struct PerfAnalyzer {
    program: PathBuf,
    libraries: Vec<PathBuf>,
}

/// Installs perf_analyzer, unless it is installed already.
///
/// # Errors
/// When the package registry cannot be reached, or the program does not run on this platform.
pub(crate) fn perf_analyzer() -> anyhow::Result<PerfAnalyzer> {
    let folder = root().join(".quintet/perf-analyzer");
    let client = PerfAnalyzer {
        program: folder.join("tritonclient-2.51.0.data/data/bin/perf_analyzer"),
        libraries: vec![
            folder.join("usr/lib").join(format!("{ARCH}-linux-gnu")),
            folder.join("nvidia/cuda_runtime/lib"),
        ],
    };
    create_once(&folder, &root().join(REQUIREMENTS), |folder, requirements| client.unpack(folder, requirements))?;
    Ok(client)
}

impl PerfAnalyzer {
    /// A command that runs the program, without arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.with_libraries(&mut command);
        command
    }

    /// Lets a command, or what it starts, find the program's libraries.
    pub(crate) fn with_libraries<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let libraries: Vec<_> = self.libraries.iter().map(|folder| folder.as_os_str()).collect();
        command.env("LD_LIBRARY_PATH", libraries.join(":".as_ref()))
    }

    /// Its path.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    fn unpack(&self, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
        let temporary = folder.join("download");
        download(&temporary, requirements, &["manylinux1_x86_64", "manylinux2014_x86_64"], &[], Progress::Hidden)
            .context("cannot download perf_analyzer; it exists only for Linux on x86-64")?;
        unpack_all(&temporary, folder)?;
        fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
        run("chmod", &["+x", text(&self.program)?])?;
        if self.check().is_err() {
            unpack_debian("libb64-0d", folder)?;
        }
        self.check()
    }

    /// Checks that the program starts; the error holds the dynamic loader's message.
    fn check(&self) -> anyhow::Result<()> {
        let output = self.command().arg("--version").output().context("cannot start perf_analyzer")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// Unpacks a Debian package without installing it.
fn unpack_debian(package: &str, folder: &Path) -> anyhow::Result<()> {
    let script = format!("cd '{}' && apt-get download -qq {package} && dpkg-deb -x {package}*.deb .", folder.display());
    run("sh", &["-c", &script]).with_context(|| format!("cannot download the Debian package {package}: install it"))
}
