//! Development tasks for the Makefile and CI: set-up, demo, benchmarks and checks.

mod bench_triton;
mod check_dependencies;
mod check_deploy;
mod check_page;
mod client_examples;
mod conformance;
mod demo;
mod floor;
mod fuzz;
mod gpu_check;
mod layers;
mod package;
mod peers_clients;
mod perf_analyzer;
mod process;
mod project;
mod release;
mod server;
mod setup;
mod suite;
mod test_models;
mod test_optional;
mod under_fire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Development tasks of the project; the Makefile and CI run them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Cli {
    #[command(flatten)]
    Command(Command),
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download ONNX Runtime into .quintet, unless it is there already; with CUDA and cuDNN on a machine with a GPU, and
    /// with TensorRT for RTX on a GPU of compute capability 7.5, 8.6, 8.9 or 12.x
    ///
    /// The variable GPU is auto (the default), on (CUDA even without a driver; 1.2 GB), rtx (also TensorRT for RTX; 146 MB)
    /// or off.
    Setup {
        /// Also install the Python packages of the tests
        #[arg(long)]
        tests: bool,
        /// Also download ONNX Runtime with the CUDA and TensorRT providers, and TensorRT for RTX, into
        /// .quintet/onnxruntime-gpu
        #[arg(long)]
        gpu_library: bool,
        /// Also download OpenVINO's execution provider into .quintet/openvino (53 MB)
        #[arg(long)]
        openvino: bool,
    },
    /// Build a model, serve it on five lanes and measure them, on this machine and over an emulated link
    Demo {
        /// The model
        #[arg(long, default_value = "resnet18")]
        arch: String,
        /// More flags for `quintet-bench demo`, such as --quick
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Compare the server with a plain socket that carries the same bytes
    Floor {
        /// Request 1000 elements of each row, as many as a classifier returns, instead of the whole row
        #[arg(long)]
        head: bool,
        /// More flags for `quintet-bench floor`
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Search for inputs that break a parser, with libFuzzer
    Fuzz {
        /// The target, a folder of fuzz/corpus; all of them one after the other if it is left out
        target: Option<String>,
        /// Seconds for each target
        #[arg(default_value_t = 60)]
        seconds: u64,
        /// More flags for libFuzzer
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Compare the server's responses with recorded responses of Triton
    Conformance {
        /// The folder with replay.py, the recordings and their models
        recordings: PathBuf,
        /// More flags for replay.py
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Serve the five lanes on their default ports until Ctrl-C
    Serve {
        /// The model
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// More flags for `quintet-server suite`
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Benchmark the server with Triton's perf_analyzer
    PerfAnalyzer {
        /// The model
        #[arg(long, default_value = "resnet18")]
        arch: String,
        /// More flags for perf_analyzer
        #[arg(last = true)]
        extra_args: Vec<String>,
    },
    /// Compare the percentiles of quintet-bench with those of perf_analyzer and oha, on one server, in turns
    PeersClients {
        /// The model
        #[arg(long, default_value = "resnet18")]
        arch: String,
        /// Rounds in which each client has its turn
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Requests of a client in a round, over each protocol
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
        requests: u32,
    },
    /// Run others' clients against the server: examples of Triton and OpenVINO Model Server, KServe's client, perf_analyzer
    ClientExamples {
        /// A checkout of Triton's repository `client`
        triton_client: PathBuf,
        /// A checkout of OpenVINO Model Server's repository `model_server`
        model_server: PathBuf,
    },
    /// Benchmark the suite and the stock tritonserver together, and check the report
    BenchTriton,
    /// Serve the models of Python packages, and compare the answers with ONNX Runtime's (237 MB of packages, once)
    TestModels,
    /// Test the server's optional features: the jpeg lane on libtorch, which is downloaded, and object stores
    TestOptional,
    /// Check the suite on a GPU: providers, parity with the CPU, engine cache, CUDA graphs, benchmarks
    GpuCheck {
        /// The model
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// Run without a GPU, to test the check itself: every lane must run on the CPU and report the reason
        #[arg(long)]
        without_gpu: bool,
        /// Use the programs, libraries and model that `gpu-pack` carried here: neither set up nor build
        #[arg(long)]
        prebuilt: bool,
    },
    /// Pack what the GPU check needs in parts of 60 MB, for a machine without a network
    GpuPack {
        /// The model
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// An empty or new folder for the parts
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
        /// Leave out CUDA and cuDNN (over 1 GB), which the other machine has in a Python environment
        #[arg(long)]
        without_cuda: bool,
    },
    /// Attack the server as strangers would: announced bodies, many inputs, silent connections, overload
    UnderFire {
        /// The model for overload
        #[arg(long, default_value = "resnet50")]
        arch: String,
        /// Make only the attacks whose names match this regular expression
        #[arg(long, default_value = "", value_name = "REGEX")]
        only: String,
        /// Seconds of each load
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Another build of quintet-server to attack in turn, as NAME=PATH; may be repeated
        #[arg(long, value_name = "NAME=PATH")]
        against: Vec<String>,
    },
    /// Check the imports against the tables of docs/architecture.md: they point down the layers, without cycles
    Layers,
    /// Check the files of the deployment (images, compose, Kubernetes, Prometheus, Grafana), and run the examples
    CheckDeploy,
    /// Use the server's page and examples/ask.html in headless Chromium, and take pictures into target/page; needs Chromium
    ///
    /// The variable CHROMIUM names its program.
    CheckPage,
    /// Check the dependencies: licences, sources, the minimum Rust, and known vulnerabilities
    CheckDependencies {
        /// Fail if the database of known vulnerabilities cannot be fetched, instead of saying that this was not run
        #[arg(long)]
        require_advisories: bool,
    },
    /// Make an archive, a wheel and, on Linux with cargo-deb, a Debian package of the release build, in target/package
    Package,
    /// Set the version everywhere, and give what is unreleased in the changelog this version and today's date
    Release {
        /// The new version, such as 0.2.0
        version: String,
    },
    /// Print the changelog of a version in Markdown
    ReleaseNotes {
        /// The version, such as 0.2.0
        version: String,
    },
}

fn main() -> ExitCode {
    let Cli::Command(command) = Cli::parse();
    let result = match command {
        Command::Setup { tests, gpu_library, openvino } => setup::setup(tests)
            .and_then(|()| {
                if gpu_library {
                    setup::gpu_library().and_then(|folder| setup::tensorrt_rtx(&folder)).map(drop)
                } else {
                    Ok(())
                }
            })
            .and_then(|()| if openvino { setup::openvino().map(drop) } else { Ok(()) })
            .map(|()| ExitCode::SUCCESS),
        Command::Demo { arch, extra_args } => demo::demo(&arch, &extra_args),
        Command::Floor { head, extra_args } => floor::floor(head, &extra_args),
        Command::Fuzz { target, seconds, extra_args } => fuzz::fuzz(target.as_deref(), seconds, &extra_args),
        Command::Conformance { recordings, extra_args } => conformance::conformance(&recordings, &extra_args),
        Command::Serve { arch, extra_args } => demo::serve(&arch, &extra_args),
        Command::PerfAnalyzer { arch, extra_args } => perf_analyzer::measure(&arch, &extra_args),
        Command::PeersClients { arch, rounds, requests } => peers_clients::peers_clients(&arch, rounds, requests),
        Command::ClientExamples { triton_client, model_server } => {
            client_examples::client_examples(&triton_client, &model_server)
        }
        Command::BenchTriton => bench_triton::bench_triton(),
        Command::TestModels => test_models::test_models(),
        Command::TestOptional => test_optional::test_optional(),
        Command::GpuCheck { arch, without_gpu, prebuilt } => {
            gpu_check::gpu_check(&arch, gpu_check::Options { without_gpu, prebuilt })
        }
        Command::GpuPack { arch, to, without_cuda } => {
            gpu_check::pack(&arch, &to, without_cuda).map(|()| ExitCode::SUCCESS)
        }
        Command::UnderFire { arch, only, seconds, against } => under_fire::under_fire(&arch, &only, seconds, &against),
        Command::Layers => layers::layers(),
        Command::CheckPage => check_page::check_page().map(|()| ExitCode::SUCCESS),
        Command::CheckDeploy => check_deploy::check_deploy().map(|()| ExitCode::SUCCESS),
        Command::CheckDependencies { require_advisories } => {
            check_dependencies::check_dependencies(require_advisories).map(|()| ExitCode::SUCCESS)
        }
        Command::Package => package::package().map(|()| ExitCode::SUCCESS),
        Command::Release { version } => release::release(&version).map(|()| ExitCode::SUCCESS),
        Command::ReleaseNotes { version } => release::notes(&version).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
