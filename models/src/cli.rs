//! The command line: `build`, `passthrough`, `fetch`, `verify`, `time`, `weights`, `list`, `completions`.

use std::{
    io::{self, Write as _},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::available_parallelism,
};

use anyhow::{Context as _, bail};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use quintet_onnxruntime::{Loaded, ThreadPool};

use crate::{
    arch::Arch,
    fetch::{HUB, Source},
    graph::Graph,
    passthrough,
    quantize::{self, Photographs},
    repository::{self, Batching},
    timing::Timed,
    variant::Variant,
    verify,
    weights::Weights,
};

/// Writes the ResNet family as ONNX into a Triton model repository.
///
/// Results go to stdout, progress to stderr. Exit status: 0 done, 1 `verify` found a difference beyond the tolerance,
/// 2 an error.
#[derive(Debug, Parser)]
#[command(name = "quintet-models", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write models with weights from a file or from a seed
    Build(Build),
    /// Write two models that compute almost nothing, identity and head, to measure the overhead around a model
    Passthrough(Passthrough),
    /// Download ImageNet weights from the Hugging Face hub and write models with them
    Fetch(Fetch),
    /// Run a model in ONNX Runtime and compare its outputs with reference outputs
    Verify(Verify),
    /// Run a model in this process once for each line on stdin, and write the seconds of each run to stdout
    Time(Time),
    /// Write the weights of a seed to a .safetensors file, to run the same model in PyTorch or libtorch
    Weights(SeededWeights),
    /// List the architectures with their parameters, GFLOPs and embedding length
    List,
    /// Print the completions of a shell
    ///
    /// bash reads them from ~/.local/share/bash-completion/completions/quintet-models, fish from
    /// ~/.config/fish/completions/quintet-models.fish, zsh from the file _quintet-models in a folder of its fpath.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a man page of each command into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which must exist
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Build {
    /// The architecture, e.g. resnet50; repeat the flag for several
    #[arg(long, value_name = "NAME", required = true)]
    arch: Vec<Arch>,
    /// Random weights: the same seed gives the same model everywhere
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "weights")]
    seed: u64,
    /// Weights from a .safetensors file with torchvision's names [default: random ones from --seed]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct Passthrough {
    /// The model repository
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Elements of a row, e.g. 150528 for an image [default: any]. With a fixed width the server knows the size of
    /// the output, so the model can write it directly into a client's shared memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    width: Option<u32>,
}

#[derive(Debug, Args)]
struct Fetch {
    /// The architecture, e.g. resnet50
    #[arg(long, value_name = "NAME")]
    arch: Arch,
    /// The repository on the hub [default: timm/ARCH.tv_in1k, torchvision's weights]
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// A branch, tag or commit of the repository
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,
    /// The folder for downloads [default: Hugging Face's cache, $HF_HOME/hub or ~/.cache/huggingface/hub]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The address of the hub or of a mirror
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = HUB)]
    endpoint: String,
    #[command(flatten)]
    target: Target,
}

/// Where models are written, and how they are configured.
#[derive(Debug, Args)]
struct Target {
    /// The model repository; each model becomes a directory in it
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The models to write, by the type of their input, separated by commas: fp32, fp16 (half the bytes), u8 (pixels, a
    /// quarter of the bytes); int8 takes FP32 and computes in INT8, and is calibrated in ONNX Runtime
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_values_t = Variant::UNCALIBRATED)]
    variants: Vec<Variant>,
    /// A folder of photographs, at least 3, on which int8 is calibrated; every third one is held back to measure the
    /// agreement with FP32 [default: the three that come with the program]
    #[arg(long, value_name = "DIR")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    library: Library,
    /// The largest batch a server may form
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_batch_size: usize,
    /// Batch sizes that the server warms up, separated by commas [default: 1,4,8,16,32 up to the maximum]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    warm_batch_sizes: Option<Vec<usize>>,
}

#[derive(Debug, Args)]
struct Verify {
    /// The model repository
    #[arg(long, value_name = "DIR")]
    repository: PathBuf,
    /// The model's name in it
    #[arg(long, value_name = "NAME")]
    model: String,
    /// A .safetensors file with `logits` or `embedding` or both, and `image` as U8 `[N,224,224,3]` or
    /// F32 `[N,3,224,224]` [default: the outputs of torchvision's models for seed 0]
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The largest absolute error allowed [default: 1e-4; 5e-3 for FP16 input; 0.5 for INT8]
    #[arg(long, value_name = "ERROR")]
    tolerance: Option<f32>,
    #[command(flatten)]
    library: Library,
}

#[derive(Debug, Args)]
struct Time {
    /// The model repository
    #[arg(long, value_name = "DIR")]
    repository: PathBuf,
    /// The model's name in it; the model must have one input, of FP32
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The shape of the input, which is all ones, e.g. 8,3,224,224
    #[arg(long, value_delimiter = ',', value_name = "DIM,...", required_unless_present = "photo")]
    shape: Vec<usize>,
    /// A photograph (JPEG, PNG, WebP, GIF, BMP or TIFF) as the input instead; each run decodes and preprocesses it
    #[arg(long, value_name = "FILE", conflicts_with = "shape")]
    photo: Option<PathBuf>,
    /// Number of the GPU to run on, with ONNX Runtime's CUDA provider and the server's options [default: the CPU]
    #[arg(long, value_name = "N")]
    gpu: Option<i32>,
    /// Let ONNX Runtime's threads spin while they wait, as its programs and Triton do by default
    #[arg(long)]
    spin: bool,
    #[command(flatten)]
    library: Library,
}

#[derive(Debug, Args)]
struct Library {
    /// The ONNX Runtime library [default: $ORT_DYLIB_PATH, or the one that `make setup` installed]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
}

impl Library {
    /// Loads the library with one thread per core, as the server does.
    fn load(&self, spin: bool) -> anyhow::Result<&'static Loaded> {
        let threads = ThreadPool { intra_op_threads: available_parallelism().map_or(1, NonZero::get), spin };
        let library = quintet_onnxruntime::load(self.onnxruntime.as_deref(), threads)?;
        eprintln!("ONNX Runtime: {}", library.path.display());
        Ok(library)
    }
}

#[derive(Debug, Args)]
struct SeededWeights {
    /// The architecture, e.g. resnet50
    #[arg(long, value_name = "NAME")]
    arch: Arch,
    /// The seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the command fails; the message names the file, flag or address.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Build(args) => build(&args)?,
        Command::Passthrough(args) => {
            passthrough::write(&args.output, args.width).with_context(|| args.output.display().to_string())?;
            print_path(&args.output)?;
        }
        Command::Fetch(args) => fetch(&args)?,
        Command::Verify(args) => return verify(&args),
        Command::Time(args) => {
            let library = args.library.load(args.spin)?;
            let (environment, root) = (&library.environment, &args.repository);
            let mut model = match &args.photo {
                Some(photo) => Timed::load_for_photo(environment, (root, &args.model), args.gpu, photo)?,
                None => Timed::load(environment, (root, &args.model), args.gpu, args.shape)?,
            };
            model.serve(io::stdin().lock(), io::stdout().lock())?;
        }
        Command::Weights(args) => weights(&args)?,
        Command::List => list()?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quintet-models", &mut script);
            io::stdout().write_all(&script).context("stdout")?;
        }
        Command::Man { folder } => {
            clap_mangen::generate_to(Cli::command(), &folder).with_context(|| folder.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build(args: &Build) -> anyhow::Result<()> {
    let batching = args.target.batching()?;
    if let (Some(file), [_, _, ..]) = (&args.weights, args.arch.as_slice()) {
        bail!("{} holds the weights of one --arch, not several", file.display());
    }
    for &arch in &args.arch {
        let weights = match &args.weights {
            Some(file) => Weights::from_safetensors(arch, file).with_context(|| file.display().to_string())?,
            None => Weights::from_seed(arch, args.seed),
        };
        args.target.write(&weights, &batching)?;
    }
    Ok(())
}

fn fetch(args: &Fetch) -> anyhow::Result<()> {
    let batching = args.target.batching()?;
    let source = Source {
        repo: args.repo.clone().unwrap_or_else(|| format!("timm/{}.tv_in1k", args.arch)),
        revision: args.revision.clone(),
        endpoint: args.endpoint.clone(),
        cache_dir: args.cache_dir.clone(),
    };
    eprintln!("{} at {} from {}", source.repo, source.revision, source.endpoint);
    let file = source.fetch()?;
    eprintln!("{}: {} bytes, sha256 {}", file.path.display(), file.bytes, file.sha256);
    let weights = Weights::from_safetensors(args.arch, &file.path).with_context(|| source.repo.clone())?;
    args.target.write(&weights, &batching)
}

fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let library = args.library.load(false)?;
    let reference = args.reference.as_deref();
    let comparison = verify::verify(&library.environment, &args.repository, &args.model, reference)?;
    let tolerance = args.tolerance.unwrap_or(match comparison.variant {
        Variant::Fp32 | Variant::U8 => 1e-4,
        // Normalised pixels reach 2.7, where FP16 values are 2e-3 apart.
        Variant::Fp16 => 5e-3,
        Variant::Int8 => 0.5,
    });
    let mut exit = ExitCode::SUCCESS;
    for difference in &comparison.differences {
        let within = difference.max_abs_error <= tolerance;
        print_line(format_args!(
            "{} {}: max abs error {:.2e} over {} images, {} the tolerance {tolerance:.0e}",
            args.model,
            difference.output,
            difference.max_abs_error,
            comparison.images,
            if within { "within" } else { "BEYOND" },
        ))?;
        if !within {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}

fn weights(args: &SeededWeights) -> anyhow::Result<()> {
    Weights::from_seed(args.arch, args.seed).save(&args.output)?;
    print_path(&args.output)
}

fn list() -> anyhow::Result<()> {
    print_line(format_args!("{:<10} {:>12} {:>8} {:>10}", "arch", "parameters", "GFLOPs", "embedding"))?;
    for arch in Arch::ALL {
        let network = arch.network();
        print_line(format_args!(
            "{:<10} {:>12} {:>8.2} {:>10}",
            arch.name(),
            network.parameters(),
            // A multiply-add counts as two operations.
            2.0 * network.multiply_adds() as f64 / 1e9,
            network.features,
        ))?;
    }
    Ok(())
}

impl Target {
    fn batching(&self) -> anyhow::Result<Batching> {
        Ok(match &self.warm_batch_sizes {
            Some(sizes) => Batching::new(self.max_batch_size, sizes)?,
            None => Batching::up_to(self.max_batch_size)?,
        })
    }

    fn write(&self, weights: &Weights, batching: &Batching) -> anyhow::Result<()> {
        eprintln!("{}: weights from {}", weights.arch(), weights.source());
        if self.calibration.is_some() && !self.variants.contains(&Variant::Int8) {
            bail!("--calibration is for the variant int8: give --variants int8, or leave it out");
        }
        let graph = Graph::new(weights)?;
        for &variant in &self.variants {
            let name = graph.name(variant);
            let written = match variant {
                Variant::Int8 => repository::write(&self.output, &self.quantize(&graph)?, variant, batching)?,
                _ => repository::write(&self.output, &graph, variant, batching)?,
            };
            eprintln!("{name}: {}", if written.changed { "written" } else { "unchanged, not rewritten" });
            print_path(&written.path)?;
        }
        Ok(())
    }

    /// Quantises the graph, and reports how it agrees with FP32.
    fn quantize(&self, graph: &Graph) -> anyhow::Result<Graph> {
        let photographs = match &self.calibration {
            Some(folder) => Photographs::in_folder(folder)?,
            None => Photographs::own(),
        };
        let library = self.library.load(false)?;
        let name = graph.name(Variant::Int8);
        let ([calibration, held_back], views) = (photographs.counts(), photographs.views());
        eprintln!("{name}: calibrating on {calibration} photographs, {views} views each");
        let quantized = quantize::quantize(&library.environment, graph, &photographs)?;
        eprintln!("{name}: on {held_back} photographs held back, {views} views each: {}", quantized.agreement);
        Ok(quantized.graph)
    }
}

fn print_path(path: &Path) -> anyhow::Result<()> {
    print_line(format_args!("{}", path.display()))
}

fn print_line(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("stdout")
}
