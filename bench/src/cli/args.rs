//! The command line: flags, and what they turn into.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use quintet_proto::lanes::Lane as Kind;

use crate::{
    analysis::checks::frame::list,
    cli::{
        compare::CompareArgs, link::LinkArgs, peers::Against, report::ReportArgs, selftest::SelftestArgs, slo::SloArgs,
    },
    client::{
        endpoint::Endpoint,
        target::{Target, default_endpoint, default_metrics},
        tls::Trust,
    },
    floor::FloorArgs,
    model::{
        arrivals::LoadSpec,
        connection::Policy,
        duration::parse_duration,
        encoding::Encoding,
        hypothesis::Hypothesis,
        lane::Lane,
        limits::Limits,
        link::LinkSpec,
        settings::{MOST_WARMUP_GROUPS, Preset, Settings},
        transport::Transport,
    },
    report,
};

/// Most images in one request, and most workers.
const MAX_BATCH: u16 = 256;
const MAX_CONCURRENCY: u16 = 1_024;

/// Drives the five lanes of an image-inference service side by side and reports where the time goes.
#[derive(Debug, Parser)]
#[command(name = "quintet-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the lanes: serially for each batch size, then concurrently.
    ///
    /// Prints the tables to stdout and writes report.json, .md, .csv, .html and every sample into a new
    /// folder under --output. Ctrl-C stops the run after the current block and keeps what was measured; --resume goes
    /// on with it.
    ///
    /// Exit status: 0 measured, 1 some requests failed, 2 bad usage or a lane cannot be reached,
    /// 130 interrupted.
    #[command(args_override_self = true)]
    Run(Box<RunCommand>),
    /// Print the JSON schema of report.json.
    Schema,
    /// Hold servers against a bare socket that carries the same bytes, in one run.
    ///
    /// Prints ratios to the bare socket with 95 % intervals. Exit status: 0 measured, 2 bad usage or a
    /// request failed.
    Floor(FloorArgs),
    /// Show results again: tables and warnings of a report.json, or of the study's raw JSON.
    Report(ReportArgs),
    /// Put two or more results beside each other: latency, throughput, the server's own time, the latency
    /// that the link does not explain, and what a million images cost by each of them.
    Compare(CompareArgs),
    /// Measure the link to a server: round trip, rates both ways, signs of loss.
    Link(LinkArgs),
    /// Search the highest rate at which p99, from the intended send time, stays under a bound.
    ///
    /// Each lane is sent an open loop of single images at a constant rate; the rate is doubled while the bound holds,
    /// then the bracket is halved down to 5 %. Windows, lanes and limits are set as for `run`.
    ///
    /// Exit status: 0 found for every lane, 1 not for some, 2 bad usage or a lane cannot be reached, 130 interrupted.
    #[command(args_override_self = true)]
    Slo(Box<SloArgs>),
    /// Prove that this program measures right, against servers whose truth is known.
    ///
    /// Exit status: 0 everything held, 1 something did not.
    Selftest(SelftestArgs),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunCommand {
    /// What is measured.
    #[command(flatten)]
    pub args: RunArgs,
    /// Go on with a run that was stopped, in its folder, with the flags it was started with. Refused when the lanes or
    /// this machine are not what they were.
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub resume: Option<PathBuf>,
    /// Print the plan and how long it may take; send nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// What `run` and `slo` measure.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// JPEG lane: base64 JPEG over HTTP.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::Jpeg), help_heading = "Lanes")]
    pub jpeg_url: Endpoint,
    /// ONNX lane over KServe HTTP.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::OnnxHttp), help_heading = "Lanes")]
    pub onnx_http_url: Endpoint,
    /// ONNX lane over KServe gRPC.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::OnnxGrpc), help_heading = "Lanes")]
    pub onnx_grpc_url: Endpoint,
    /// Metrics of the ONNX service.
    #[arg(long, value_name = "URL", default_value_t = default_metrics(Kind::OnnxHttp), help_heading = "Lanes")]
    pub onnx_metrics_url: Endpoint,
    /// TensorRT lane over KServe HTTP.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::TrtHttp), help_heading = "Lanes")]
    pub trt_http_url: Endpoint,
    /// TensorRT lane over KServe gRPC.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::TrtGrpc), help_heading = "Lanes")]
    pub trt_grpc_url: Endpoint,
    /// Metrics of the TensorRT service.
    #[arg(long, value_name = "URL", default_value_t = default_metrics(Kind::TrtHttp), help_heading = "Lanes")]
    pub trt_metrics_url: Endpoint,
    /// Authorities whose certificates are believed, in PEM form, in place of those that browsers believe: for addresses
    /// with https:// or grpcs:// of servers with a private authority.
    #[arg(long, value_name = "FILE", help_heading = "Lanes")]
    pub ca_file: Option<PathBuf>,
    /// Measure another server in the same interleaved blocks; repeatable. triton: stock Triton as docker compose's profile
    /// `triton` has it (8110 to 8122, PyTorch on 8102). Addresses in place of those, or of a server of any other name:
    /// NAME=onnx-http=URL,onnx-grpc=URL,... with jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc, trt-metrics.
    /// Its lanes are called NAME/onnx-http and so on, in --skip and --hypothesis too.
    #[arg(long, value_name = "NAME[=LANE=URL,...]", help_heading = "Lanes")]
    pub against: Vec<Against>,
    /// Leave out a lane (onnx-grpc) or a whole service (trt), of all servers or of one (triton/jpeg); repeatable,
    /// comma-separated.
    #[arg(long, value_name = "LANE", value_delimiter = ',', help_heading = "Lanes")]
    pub skip: Vec<String>,
    /// Model to ask for.
    #[arg(long, value_name = "NAME", default_value = "resnet50", help_heading = "Lanes")]
    pub model: String,

    /// Size of the run; the flags below override it. quick: five lanes within five minutes on two cores
    /// (ResNet-18). seed: the study's 30 iterations, longer windows.
    #[arg(long, value_enum, default_value = "quick", help_heading = "Load")]
    pub preset: Preset,
    /// Batch sizes of the serial part; empty to leave it out.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,4,8,16,32", help_heading = "Load",
          value_parser = counts(MAX_BATCH), num_args = 0..)]
    pub batches: Vec<u16>,
    /// Workers of the concurrent part, one image in flight each; empty to leave it out.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,16", help_heading = "Load",
          value_parser = counts(MAX_CONCURRENCY), num_args = 0..)]
    pub concurrency: Vec<u16>,
    /// Measured requests for each lane and batch size [quick: 16, seed: 30].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: Option<u32>,
    /// What loads the lanes; repeatable. closed: the serial and the concurrent part. Open loops send at their own
    /// times, one image each: constant:RATE, poisson:RATE (per second), steps:RATE,RATE,..., replay:FILE (a time in
    /// seconds on each line).
    #[arg(long, value_name = "LOAD", default_value = "closed", help_heading = "Load")]
    pub load: Vec<LoadSpec>,
    /// Whose connections requests go out on: fresh (one for each request), reused (one for each worker), or a
    /// number that all workers share. Several are measured side by side.
    #[arg(long, value_name = "POLICY,...", value_delimiter = ',', default_value = "reused", help_heading = "Load")]
    pub connection: Vec<Policy>,
    /// In which form images are sent; a lane is measured with those that it can carry, or with its usual one
    /// [jpeg lane: jpeg-base64, KServe lanes: fp32].
    #[arg(long, value_name = "FORM,...", value_delimiter = ',', help_heading = "Load")]
    pub payload: Vec<Encoding>,
    /// On which ways tensors reach the server; several are measured side by side, and a lane uses those that it can.
    #[arg(long, value_name = "WAY,...", value_delimiter = ',', default_value = "tcp", help_heading = "Load")]
    pub transport: Vec<Transport>,
    /// Folder of the lanes' Unix domain sockets, as the server's --uds-dir has it.
    #[arg(long, value_name = "DIR", help_heading = "Lanes")]
    pub uds_dir: Option<PathBuf>,
    /// Requests before each lane and batch size are measured, at least [quick: 2, seed: 5]. They go on until the
    /// medians of two such groups in a row are within 10 %.
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warmup: Option<u32>,
    /// Most requests before each lane and batch size are measured [five times --warmup].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_warmup: Option<u32>,
    /// Blocks that the iterations are dealt into; lanes take turns block by block [quick: 8, seed: 10].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub blocks: Option<u32>,
    /// Length of a concurrent window [quick: 4s, seed: 15s].
    #[arg(long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Load before a concurrent window opens; not measured.
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Load", value_parser = parse_duration)]
    pub ramp: Duration,
    /// Folder of photographs to send (the first 16 by name) instead of the four that are built in.
    #[arg(long, value_name = "DIR", help_heading = "Load")]
    pub images: Option<PathBuf>,
    /// Seed of the lanes' order and of the intervals.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,

    /// A claim to judge, e.g. 'p50(onnx-http) < p50(onnx-grpc) @ batch=1'; repeatable. With <, > or ~ 5%; of p50,
    /// mean, p95, p99, throughput or a part of the latency (infer, queue, network, ...); @ batch=N or concurrency=N.
    #[arg(long, value_name = "CLAIM", help_heading = "Load")]
    pub hypothesis: Vec<Hypothesis>,

    /// Put an emulated link in front of every lane: round trip, rates, jitter, initial window (in segments
    /// of 1,460 bytes); also queue= and window= in bytes. No root needed; counters are read directly.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10", help_heading = "Load")]
    pub link: Option<LinkSpec>,

    /// Longest time to open a connection.
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Limits", value_parser = parse_duration)]
    pub connect_timeout: Duration,
    /// Longest time for one request.
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = "Limits", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// Largest answer that is read.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_response_bytes, help_heading = "Limits")]
    pub max_response_bytes: usize,
    /// Most requests in one concurrent window.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_window_requests, help_heading = "Limits")]
    pub max_window_requests: usize,

    /// Most requests in flight, and so connections, in an open loop; further ones wait, and their wait counts.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_in_flight as u16, help_heading = "Limits",
          value_parser = counts(MAX_CONCURRENCY))]
    pub max_in_flight: u16,

    /// Folder for results; each run gets its own folder in it.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
}

pub(crate) fn counts(most: u16) -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::from(most))
}

impl RunArgs {
    /// The settings: the preset, and what overrides it.
    pub fn settings(&self) -> Settings {
        let (iterations, warmup, blocks, duration) = self.preset.sizes();
        let or = |given: Option<u32>, preset: usize| given.map_or(preset, |n| n as usize);
        Settings {
            preset: self.preset,
            model: self.model.clone(),
            batches: distinct(&self.batches),
            concurrency: distinct(&self.concurrency),
            iterations: or(self.iterations, iterations),
            warmup: or(self.warmup, warmup),
            max_warmup: or(self.max_warmup, MOST_WARMUP_GROUPS * or(self.warmup, warmup)),
            blocks: or(self.blocks, blocks),
            duration: self.duration.unwrap_or(duration),
            ramp: self.ramp,
            seed: self.seed,
            hypotheses: self.hypothesis.clone(),
            loads: self.load.clone(),
            connections: once_each(&self.connection),
            payloads: once_each(&self.payload),
            transports: once_each(&self.transport),
            uds_dir: self.uds_dir.clone(),
            limits: Limits {
                connect_timeout: self.connect_timeout,
                request_timeout: self.request_timeout,
                max_response_bytes: self.max_response_bytes,
                max_window_requests: self.max_window_requests,
                max_in_flight: self.max_in_flight.into(),
            },
            link: self.link,
        }
    }

    /// The lanes that are not skipped, the suite's first.
    ///
    /// # Errors
    /// For a name in `--skip` that no lane has, for two servers of one name, when nothing is left, and for a `--ca-file`
    /// without certificates.
    pub fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let own = |kind: Kind| Target {
            lane: Lane::own(kind),
            endpoint: self.endpoint(kind).clone(),
            metrics: match kind.service() {
                "onnx" => self.onnx_metrics_url.clone(),
                "trt" => self.trt_metrics_url.clone(),
                _ => self.jpeg_url.clone(),
            },
            model: self.model.clone(),
        };
        let peers = self.against.iter().flat_map(|server| server.targets(&self.model));
        let mut targets: Vec<_> = Kind::ALL.into_iter().map(own).chain(peers).collect();
        let mut lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
        for name in self.skip.iter().map(|name| name.trim()) {
            if !lanes.iter().any(|lane| lane.is_named(name)) {
                bail!("--skip: no lane `{name}`; lanes are {}, services are jpeg, onnx, trt", list(&lanes));
            }
            targets.retain(|target| !target.lane.is_named(name));
        }
        lanes.sort_unstable();
        if let Some(twice) = lanes.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("--against: there are two lanes {}; give servers different names", twice[0]);
        }
        if targets.is_empty() {
            bail!("--skip leaves no lane to measure");
        }
        if let Some(file) = &self.ca_file {
            let trust = Trust::of_file(file).context("--ca-file")?;
            for target in &mut targets {
                target.endpoint = target.endpoint.clone().trusting(&trust);
                target.metrics = target.metrics.clone().trusting(&trust);
            }
        }
        Ok(targets)
    }

    fn endpoint(&self, lane: Kind) -> &Endpoint {
        match lane {
            Kind::Jpeg => &self.jpeg_url,
            Kind::OnnxHttp => &self.onnx_http_url,
            Kind::OnnxGrpc => &self.onnx_grpc_url,
            Kind::TrtHttp => &self.trt_http_url,
            Kind::TrtGrpc => &self.trt_grpc_url,
        }
    }
}

/// The items in the order given, each once.
fn once_each<T: Copy + PartialEq>(items: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for item in items {
        if !once.contains(item) {
            once.push(*item);
        }
    }
    once
}

fn distinct(counts: &[u16]) -> Vec<usize> {
    let mut counts: Vec<usize> = counts.iter().map(|&n| n.into()).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Does what the command line says; the message of an error is on stderr.
pub async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => super::run::run(&args).await,
        Command::Slo(args) => super::slo::slo(&args).await,
        Command::Selftest(args) => super::selftest::selftest(&args).await,
        Command::Schema => show(report::schema::schema().map_err(Into::into)),
        Command::Report(args) => show(super::report::report(&args)),
        Command::Compare(args) => show(super::compare::compare(&args)),
        Command::Link(args) => show(super::link::link(&args).await),
        Command::Floor(args) => super::floor::floor(args).await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn show(text: anyhow::Result<String>) -> anyhow::Result<ExitCode> {
    write_stdout(&text?).map(|()| ExitCode::SUCCESS)
}

pub(crate) fn write_stdout(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn args(flags: &[&str]) -> RunArgs {
        let command = Cli::try_parse_from(["quintet-bench", "run"].iter().chain(flags)).unwrap().command;
        let Command::Run(run) = command else { panic!("not `run`") };
        run.args
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_quick_preset_on_this_machine() {
        let args = args(&[]);
        let settings = args.settings();
        assert_eq!((settings.iterations, settings.warmup, settings.blocks), (16, 2, 8));
        assert_eq!(settings.batches, [1, 4, 8, 16, 32]);
        assert_eq!(settings.concurrency, [1, 8, 16]);
        let ports: Vec<_> = args.targets().unwrap().iter().map(|t| (t.endpoint.port(), t.metrics.port())).collect();
        assert_eq!(ports, [(8002, 8002), (8010, 8012), (8011, 8012), (8020, 8022), (8021, 8022)]);
    }

    #[test]
    fn flags_override_the_preset() {
        let settings =
            args(&["--preset", "seed", "--iterations", "7", "--batches", "8,2,8", "--duration", "500ms"]).settings();
        assert_eq!((settings.iterations, settings.warmup), (7, 5));
        assert_eq!(settings.batches, [2, 8]);
        assert_eq!(settings.duration, Duration::from_millis(500));
    }

    #[test]
    fn lanes_and_services_are_skipped() {
        let lanes =
            |flags: &[&str]| args(flags).targets().map(|targets| targets.iter().map(|t| t.lane).collect::<Vec<_>>());
        assert_eq!(lanes(&["--skip", "trt,jpeg"]).unwrap(), [Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        assert_eq!(lanes(&["--skip", "onnx-http", "--skip", "trt"]).unwrap(), [Lane::JPEG, Lane::ONNX_GRPC]);
        assert!(lanes(&["--skip", "trt,onnx,jpeg"]).is_err());
        insta::assert_snapshot!(
            lanes(&["--skip", "torch"]).unwrap_err(),
            @"--skip: no lane `torch`; lanes are jpeg, onnx-http, onnx-grpc, trt-http, trt-grpc, services are jpeg, onnx, trt"
        );
    }

    #[test]
    fn other_servers_are_measured_beside_the_suite() {
        let lanes = |flags: &[&str]| args(flags).targets().map(|targets| list(targets.iter().map(|t| t.lane)));
        assert_eq!(
            lanes(&["--against", "triton", "--skip", "trt,triton/jpeg"]).unwrap(),
            "jpeg, onnx-http, onnx-grpc, triton/onnx-http, triton/onnx-grpc"
        );
        let two = ["--against", "a=jpeg=h:1", "--against", "b=jpeg=h:2", "--skip", "a"];
        assert_eq!(lanes(&two).unwrap(), "jpeg, onnx-http, onnx-grpc, trt-http, trt-grpc, b/jpeg");
        assert!(lanes(&["--against", "a=jpeg=h:1", "--against", "a=jpeg=h:2"]).is_err());
        assert!(lanes(&["--skip", "triton/jpeg"]).is_err());
    }

    #[test]
    fn axes_are_lists() {
        let settings = args(&[
            "--connection",
            "fresh,reused,fresh,2",
            "--payload",
            "u8,jpeg",
            "--load",
            "steps:5,10",
            "--load",
            "closed",
        ])
        .settings();
        assert_eq!(settings.connections.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fresh", "reused", "2"]);
        assert_eq!(settings.payloads, [Encoding::U8, Encoding::Jpeg]);
        assert_eq!(settings.loads, ["steps:5,10".parse().unwrap(), LoadSpec::Closed]);
        assert_eq!(args(&["--warmup", "3"]).settings().max_warmup, 15);
    }

    #[test]
    fn counts_out_of_range_are_usage_errors() {
        for flags in [["--batches", "0"], ["--batches", "1000"], ["--concurrency", "x"], ["--iterations", "0"]] {
            assert!(Cli::try_parse_from(["quintet-bench", "run"].iter().chain(&flags)).is_err(), "{flags:?}");
        }
    }
}
