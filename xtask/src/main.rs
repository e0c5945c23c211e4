//! What make calls: sets up ONNX Runtime, the models and the demo.

mod bench_triton;
mod check_deploy;
mod conformance;
mod demo;
mod floor;
mod gpu_check;
mod layers;
mod perf_analyzer;
mod process;
mod project;
mod server;
mod setup;
mod suite;
mod test_torch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Chores of the project; each is one target of the Makefile.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Cli {
    #[command(flatten)]
    Command(Command),
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch what building does not bring; does nothing where it is there already
    Setup {
        /// Also the Python packages that the tests use
        #[arg(long)]
        tests: bool,
        /// Also ONNX Runtime with its CUDA and TensorRT providers, in .quintet/onnxruntime-gpu: 600 MB
        #[arg(long)]
        gpu_library: bool,
    },
    /// Build the model, serve it on five lanes and measure them
    Demo {
        /// The model
        #[arg(long, default_value = "resnet18")]
        arch: String,
        /// More flags for `quintet-bench run`
        #[arg(last = true)]
        bench: Vec<String>,
    },
    /// Hold the server against a bare socket that carries the same bytes
    Floor {
        /// Ask for 1000 elements of each row back, as a classifier answers, instead of all
        #[arg(long)]
        head: bool,
        /// More flags for `quintet-bench floor`
        #[arg(last = true)]
        bench: Vec<String>,
    },
    /// Compare the server's answers with recorded ones of Triton
    Conformance {
        /// The folder with replay.py, the recordings and their models
        recordings: PathBuf,
        /// More flags for replay.py
        #[arg(last = true)]
        replay: Vec<String>,
    },
    /// Serve the five lanes on their usual ports until Ctrl-C
    Serve {
        /// The model
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// More flags for `quintet-server suite`
        #[arg(last = true)]
        server: Vec<String>,
    },
    /// Measure the server with Triton's own perf_analyzer, unmodified
    PerfAnalyzer {
        /// The model
        #[arg(long, default_value = "resnet18")]
        arch: String,
        /// More flags for perf_analyzer
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Measure the suite beside the genuine tritonserver, and check what the report says of both
    BenchTriton,
    /// Set libtorch up and test the jpeg lane on it
    TestTorch,
    /// On a machine with a GPU: where lanes run, parity with the CPU, engine cache, five lanes; one report
    GpuCheck {
        /// The model
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// Go on where there is no GPU, to try the check itself: lanes should run on the CPU, and say why
        #[arg(long)]
        without_gpu: bool,
    },
    /// Check that imports follow the tables of docs/architecture.md: down the layers, and in no circle
    Layers,
    /// Check the files of the deployment: images, compose, Kubernetes, Prometheus, Grafana
    CheckDeploy,
}

fn main() -> ExitCode {
    let Cli::Command(command) = Cli::parse();
    let done = match command {
        Command::Setup { tests, gpu_library } => setup::setup(tests)
            .and_then(|()| if gpu_library { setup::gpu_library().map(drop) } else { Ok(()) })
            .map(|()| ExitCode::SUCCESS),
        Command::Demo { arch, bench } => demo::demo(&arch, &bench),
        Command::Floor { head, bench } => floor::floor(head, &bench),
        Command::Conformance { recordings, replay } => conformance::conformance(&recordings, &replay),
        Command::Serve { arch, server } => demo::serve(&arch, &server),
        Command::PerfAnalyzer { arch, flags } => perf_analyzer::measure(&arch, &flags),
        Command::BenchTriton => bench_triton::bench_triton(),
        Command::TestTorch => test_torch::test_torch(),
        Command::GpuCheck { arch, without_gpu } => gpu_check::gpu_check(&arch, without_gpu),
        Command::Layers => layers::layers(),
        Command::CheckDeploy => check_deploy::check_deploy().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
