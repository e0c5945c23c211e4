//! The system under check: the suite with one model, on ONNX Runtime's GPU build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};

use super::run::{CPU, Lane, Run};
use crate::{
    project::{program, root},
    server::{SUITE, Server},
    setup,
    suite::{self, MODELS},
};

/// What the check has to go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Run without a GPU, to test the check itself: the lanes must then run on the CPU.
    pub(crate) without_gpu: bool,
    /// Use the programs, libraries and models that are here: neither set up nor build.
    pub(crate) prebuilt: bool,
}

/// The programs, library and folders of the check.
pub(super) struct Subject<'a> {
    pub(super) arch: &'a str,
    pub(super) options: Options,
    /// The folder of ONNX Runtime's GPU build.
    pub(super) library: PathBuf,
    /// The folder for the check's files.
    pub(super) folder: PathBuf,
    server: PathBuf,
}

impl<'a> Subject<'a> {
    /// Installs the libraries and builds the programs, unless they are to be here, and empties the check's folder.
    pub(super) fn prepare(arch: &'a str, options: Options) -> anyhow::Result<Self> {
        let (library, server) = if options.prebuilt {
            let library = root().join(quintet_onnxruntime::GPU_FOLDER);
            let server = program("release", "quintet-server");
            for path in [&library, &server, &root().join(MODELS).join(arch)] {
                ensure!(path.exists(), "--prebuilt needs {}, but it is not there", path.display());
            }
            (library, server)
        } else {
            setup::setup(false)?;
            let library = if options.without_gpu { setup::gpu_library()? } else { setup::gpu_libraries()? };
            (library, suite::prepare(arch)?)
        };
        let folder = root().join(".quintet/gpu-check");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { arch, options, library, folder, server })
    }

    /// The folder of what providers compile.
    pub(super) fn engines(&self) -> PathBuf {
        self.folder.join("engines")
    }

    /// Starts the suite with all lanes on the CPU.
    pub(super) fn start_on_cpu(&self) -> anyhow::Result<Server> {
        let flags = ["--jpeg-providers=cpu", "--onnx-providers=cpu", "--trt-providers=cpu"];
        Ok(self.start(Path::new(MODELS), None, &flags)?.0)
    }

    /// Starts the suite, with its log in a file or on stderr. Returns it with the seconds until it was ready.
    pub(super) fn start(&self, repository: &Path, log: Option<&Path>, flags: &[&str]) -> anyhow::Result<(Server, f64)> {
        let mut command = suite::server_command(&self.server, repository, self.arch);
        let log = log.map(fs::File::create).transpose().context("cannot write the server's log")?;
        command.stderr(log.map_or_else(Stdio::inherit, Stdio::from));
        command.arg("--onnxruntime").arg(&self.library).arg("--engine-cache").arg(self.engines());
        if self.options.without_gpu {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        command.args(flags);
        let started = Instant::now();
        let server = Server::start(command, SUITE)?;
        Ok((server, started.elapsed().as_secs_f64()))
    }

    /// Benchmarks the lanes with the quick preset; the report's folder has this name.
    pub(super) fn bench(&self, server: &Server, name: &str, flags: &[&str]) -> anyhow::Result<Run> {
        let mut command = suite::bench_command("run", server, self.arch);
        command.args(flags);
        self.run(command, name)
    }

    /// Compares the outputs of each lane with those of the same lane of a server on the CPU.
    pub(super) fn compare(&self, server: &Server, cpu: &Server) -> anyhow::Result<Vec<Lane>> {
        let peers: Vec<_> =
            cpu.ports().iter().map(|(listener, port)| format!("{listener}=http://127.0.0.1:{port}")).collect();
        let mut command = suite::bench_command("run", server, self.arch);
        command.arg(format!("--against={CPU}={}", peers.join(",")));
        // Nothing is measured: each lane answers the least that a run has.
        command.args(["--batches=1", "--concurrency", "--iterations=1", "--blocks=1"]);
        let run = self.run(command, "parity")?;
        ensure!(run.success, "the comparison of outputs failed");
        Ok(run.lanes())
    }

    fn run(&self, mut command: Command, name: &str) -> anyhow::Result<Run> {
        let folder = self.folder.join(name);
        command.arg("--output").arg(&folder).stderr(Stdio::inherit());
        let output = command.output().context("cannot start the benchmark")?;
        let report = files(&folder)?.into_iter().rfind(|path| path.ends_with("report.json"));
        let report = report.map(|path| -> anyhow::Result<_> {
            serde_json::from_slice(&fs::read(&path)?).with_context(|| path.display().to_string())
        });
        Ok(Run {
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
            success: output.status.success(),
            report: report.transpose()?.unwrap_or_default(),
        })
    }

    /// Compares the onnx lanes with in-process runs of the model on the same provider, for batches of 1 to 32.
    pub(super) fn compare_with_in_process(&self, server: &Server) -> anyhow::Result<Run> {
        let models = program("release", "quintet-models");
        let gpu = if self.options.without_gpu { "" } else { " --gpu 0" };
        let (models, library) = (models.display(), self.library.display());
        let arch = self.arch;
        let in_process = format!("{models} time --repository {MODELS} --model {arch} --onnxruntime {library}{gpu}");
        // The elements of the embedding and the logits.
        let reply_elements = if ["resnet18", "resnet34"].contains(&arch) { "1512" } else { "3048" };
        let ports = server.ports();
        let target = format!("onnx=http://127.0.0.1:{},grpc://127.0.0.1:{}", ports["onnx-http"], ports["onnx-grpc"]);
        let mut command = Command::new(program("release", "quintet-bench"));
        command.args(["floor", "--target", &target, "--model", arch, "--images", "image", "--in-process", &in_process]);
        command.args(["--reply-elements", reply_elements, "--payload", "1,4,8,16,32"]);
        command.args(["--concurrency", "1", "--window", "500ms"]);
        let output =
            command.current_dir(root()).stderr(Stdio::inherit()).output().context("cannot start the benchmark")?;
        Ok(Run {
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
            success: output.status.success(),
            ..Run::default()
        })
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
