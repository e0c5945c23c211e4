//! The system under check: the suite with one model, on ONNX Runtime's GPU build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{
    project::{program, root},
    server::{SUITE, Server},
    setup,
    suite::{self, MODELS},
};

const PHOTO: &str = "photos/astronaut.jpg";

/// The programs, library and folders of the check.
pub(super) struct Subject<'a> {
    pub(super) arch: &'a str,
    /// Whether the GPU is hidden, to test the check itself.
    pub(super) without_gpu: bool,
    /// ONNX Runtime's GPU build.
    pub(super) library: PathBuf,
    /// The folder for the check's files.
    pub(super) folder: PathBuf,
    server: PathBuf,
}

/// The comparison of the lanes with the reference.
pub(super) struct Lanes {
    /// The table of `gpu_check.py`.
    pub(super) table: String,
    /// Whether every lane runs on the expected provider and agrees with the CPU.
    pub(super) pass: bool,
}

impl<'a> Subject<'a> {
    /// Installs the libraries, builds the programs, and empties the check's folder.
    pub(super) fn prepare(arch: &'a str, without_gpu: bool) -> anyhow::Result<Self> {
        setup::setup(true)?;
        let library = if without_gpu { setup::gpu_library()? } else { setup::gpu_libraries()? };
        let server = suite::prepare(arch)?;
        let folder = root().join(".quintet/gpu-check");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { arch, without_gpu, library, folder, server })
    }

    /// The folder of TensorRT's engine cache.
    pub(super) fn engines(&self) -> PathBuf {
        self.folder.join("engines")
    }

    /// Starts the suite. Returns it with the seconds until it was ready.
    pub(super) fn start(&self, repository: &Path, log: Stdio, flags: &[&str]) -> anyhow::Result<(Server, f64)> {
        let mut command = suite::server_command(&self.server, repository, self.arch);
        command.stderr(log).arg("--onnxruntime").arg(&self.library).arg("--engine-cache").arg(self.engines());
        if self.without_gpu {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        command.args(flags);
        let started = Instant::now();
        let server = Server::start(command, SUITE)?;
        Ok((server, started.elapsed().as_secs_f64()))
    }

    /// Benchmarks the lanes with the quick preset.
    pub(super) fn bench(&self, server: &Server, flags: &[&str]) -> anyhow::Result<Output> {
        suite::bench_command(server, self.arch).args(flags).output().context("cannot start the benchmark")
    }

    /// Compares the lanes with the reference, which the first call writes.
    pub(super) fn compare(&self, server: &Server) -> anyhow::Result<Lanes> {
        self.compare_with_flags(server, if self.without_gpu { &["--without-gpu"] } else { &[] })
    }

    /// As [`Self::compare`], with these flags of `gpu_check.py`.
    pub(super) fn compare_with_flags(&self, server: &Server, flags: &[&str]) -> anyhow::Result<Lanes> {
        let output = Command::new(root().join(".quintet/venv/bin/python"))
            .arg("xtask/python/gpu_check.py")
            .arg(serde_json::to_string(server.ports())?)
            .args([self.arch, PHOTO])
            .arg(self.folder.join("reference.npz"))
            .args(flags)
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start gpu_check.py")?;
        match output.status.code() {
            Some(0 | 3) => Ok(Lanes { table: String::from_utf8(output.stdout)?, pass: output.status.success() }),
            _ => bail!("gpu_check.py failed: {}", output.status),
        }
    }

    /// Compares the onnx lanes with in-process runs of the model on the same provider, for batches of 1 to 32.
    pub(super) fn compare_with_in_process(&self, server: &Server) -> anyhow::Result<Output> {
        let models = program("release", "quintet-models");
        let gpu = if self.without_gpu { "" } else { " --gpu 0" };
        let (models, library) = (models.display(), self.library.display());
        let arch = self.arch;
        let in_process = format!("{models} time --repository {} --model {arch} --onnxruntime {library}{gpu}", MODELS);
        // The elements of the embedding and the logits.
        let reply_elements = if ["resnet18", "resnet34"].contains(&arch) { "1512" } else { "3048" };
        let ports = server.ports();
        let target = format!("onnx=http://127.0.0.1:{},grpc://127.0.0.1:{}", ports["onnx-http"], ports["onnx-grpc"]);
        let mut command = Command::new(program("release", "quintet-bench"));
        command.args(["floor", "--target", &target, "--model", arch, "--images", "image", "--in-process", &in_process]);
        command.args([
            "--reply-elements",
            reply_elements,
            "--payload",
            "1,4,8,16,32",
            "--concurrency",
            "1",
            "--window",
            "500ms",
        ]);
        command.current_dir(root());
        command.stderr(Stdio::inherit()).output().context("cannot start the benchmark")
    }

    /// Writes a repository in which the model's configuration enables CUDA graphs; returns its path.
    pub(super) fn repository_with_graphs(&self) -> anyhow::Result<PathBuf> {
        const GRAPHS: &str = "\noptimization { execution_accelerators { gpu_execution_accelerator [ \
                              { name: \"cuda\" parameters { key: \"enable_cuda_graph\" value: \"1\" } } ] } }\n";
        let (from, to) = (root().join(MODELS).join(self.arch), self.folder.join("models").join(self.arch));
        fs::create_dir_all(to.parent().unwrap_or(&self.folder))?;
        let copied = Command::new("cp").arg("-r").args([&from, &to]).status().context("cannot start cp")?;
        if !copied.success() {
            bail!("cannot copy {}", from.display());
        }
        let config = to.join("config.pbtxt");
        let text = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
        fs::write(&config, text + GRAPHS)?;
        Ok(self.folder.join("models"))
    }
}

/// All files below a folder, sorted; none if the folder does not exist.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}
