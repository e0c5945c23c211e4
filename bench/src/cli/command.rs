//! Lists the commands and calls the file that runs each.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    cli::{
        compare::{self, CompareCommand},
        demo::{self, DemoArgs},
        explain::{self, ExplainArgs},
        floor,
        link::{self, LinkArgs},
        output::show,
        report::{self, ReportCommand},
        run::{self, RunCommand},
        selftest::{self, SelftestArgs},
        slo::{self, SloArgs},
    },
    floor::args::FloorArgs,
    report::schema,
};

/// Measures the five lanes of an image-inference service side by side and reports where the time goes.
///
/// A TIME is a number with its unit: 200ms, 5s, 10m. A RATE is in requests per second.
#[derive(Debug, Parser)]
#[command(name = "quintet-bench", version)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the lanes: serial requests at each batch size, then concurrent requests.
    ///
    /// Prints tables to stdout. Writes report.json, .md, .csv, .html and all samples to a new folder under --output.
    /// Ctrl-C stops the run after the current block and keeps what was measured; --resume continues it.
    ///
    /// Short flags are those of other tools: -b and -m of perf_analyzer, -c, -n and -q of oha, -d of wrk, -w of hyperfine.
    ///
    /// Exit status: 0 all requests succeeded, 1 some requests failed or the result of a --scenario is INVALID, 2 bad usage
    /// or a lane cannot be reached, 3 a condition of --fail-on holds, 130 interrupted.
    #[command(args_override_self = true)]
    Run(Box<RunCommand>),
    /// Show what the network costs: single images to every lane, as they are and over an emulated link.
    ///
    /// Two runs of two minutes together on two cores with ResNet-18: the lanes as they are, with JPEG and tensors; the same over a
    /// round trip of 35 ms and 20 Mbit/s, on kept and on fresh connections. Prints one table and what its times depend on.
    ///
    /// Exit status: that of `run`.
    #[command(args_override_self = true)]
    Demo(Box<DemoArgs>),
    /// Print the JSON schema of report.json.
    Schema,
    /// Compare servers with a bare socket that carries the same bytes (the floor), in one run.
    ///
    /// Prints each server's latency and rate as ratios to the bare socket, with 95 % intervals.
    ///
    /// Exit status: 0 measured, 2 bad usage or a request failed.
    Floor(FloorArgs),
    /// Show saved results again: tables and warnings of a report.json or of the study's raw JSON.
    ///
    /// Exit status: 0 shown, 2 a file holds no results, 3 a condition of --fail-on holds.
    Report(ReportCommand),
    /// Compare two or more results: latency, throughput, time in the server, cost of a million images.
    ///
    /// For runs over a known link it also shows the latency that the link does not explain.
    /// Conditions of --fail-on are judged by each file but the first.
    ///
    /// Exit status: 0 compared, 2 a file holds no results, 3 a condition of --fail-on holds.
    Compare(CompareCommand),
    /// Say which resource ends the scaling of each lane (GPU, CPU, link, queue or client), with the evidence.
    ///
    /// Reads runs with several numbers of workers or open-loop rates. Compares utilisations (instances, GPU, client, link)
    /// and, by Little's law, where requests in flight wait. With several runs it also says whether more instances help.
    Explain(ExplainArgs),
    /// Measure the network link to a server: round trip, rate in each direction, signs of loss.
    Link(LinkArgs),
    /// Find the highest request rate at which p99 latency stays within a bound.
    ///
    /// Sends single images to each lane in an open loop; latency counts from the intended send time. The rate doubles
    /// while p99 is within the bound. Then the interval between the highest rate within the bound and the lowest rate
    /// above it is halved until it is at most 5 % wide. The lanes take turns window by window, at the same rates until
    /// they differ; each probe begins with a warm-up. A bound missed while the client sent late does not count: the rate is
    /// tried once more, then the lane is reported as client-limited. Windows, lanes and limits are set as for `run`.
    ///
    /// Exit status: 0 a rate was found for every lane, 1 for some lanes only, 2 bad usage or a lane cannot be reached,
    /// 130 interrupted.
    #[command(args_override_self = true)]
    Slo(Box<SloArgs>),
    /// Check that this program measures correctly, against servers with known behaviour.
    ///
    /// Exit status: 0 all checks passed, 1 a check failed.
    Selftest(SelftestArgs),
    /// Print the completions of a shell.
    ///
    /// bash reads them from ~/.local/share/bash-completion/completions/quintet-bench, fish from
    /// ~/.config/fish/completions/quintet-bench.fish, zsh from the file _quintet-bench in a folder of its fpath.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write a man page of each command into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

/// Runs the command line; errors go to stderr.
pub async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args).await,
        Command::Demo(args) => demo::demo(&args).await,
        Command::Slo(args) => slo::slo(&args).await,
        Command::Selftest(args) => selftest::selftest(&args).await,
        Command::Schema => show(schema::schema().map_err(Into::into)),
        Command::Report(args) => report::command(&args),
        Command::Compare(args) => compare::command(&args),
        Command::Explain(args) => show(explain::explain(&args)),
        Command::Link(args) => show(link::link(&args).await),
        Command::Floor(args) => floor::floor(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quintet-bench", &mut script);
            show(String::from_utf8(script).map_err(Into::into))
        }
        Command::Man { folder } => clap_mangen::generate_to(Cli::command(), &folder)
            .with_context(|| folder.display().to_string())
            .map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::RunArgs;
    use crate::model::{arrivals::LoadSpec, encoding::Encoding, lane::Lane, words::list};
    use std::time::Duration;

    fn args(flags: &[&str]) -> RunArgs {
        let command = Cli::try_parse_from(["quintet-bench", "run"].iter().chain(flags)).unwrap().command;
        let Command::Run(run) = command else { panic!("not `run`") };
        run.args
    }

    #[test]
    fn the_command_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_quick_preset_on_this_machine() {
        let args = args(&[]);
        let settings = args.settings();
        assert_eq!((settings.iterations, settings.warmup, settings.blocks), (16, 2, 8));
        assert_eq!(settings.batches, [1, 4, 8, 16, 32]);
        assert_eq!(settings.concurrency, [1, 8, 16]);
        let ports: Vec<_> =
            args.lanes.targets().unwrap().iter().map(|t| (t.endpoint.port(), t.metrics.port())).collect();
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
        let lanes = |flags: &[&str]| {
            args(flags).lanes.targets().map(|targets| targets.iter().map(|t| t.lane).collect::<Vec<_>>())
        };
        assert_eq!(lanes(&["--skip", "trt,jpeg"]).unwrap(), [Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        assert_eq!(lanes(&["--skip", "onnx-http", "--skip", "trt"]).unwrap(), [Lane::JPEG, Lane::ONNX_GRPC]);
        assert!(lanes(&["--skip", "trt,onnx,jpeg"]).is_err());
        insta::assert_snapshot!(
            lanes(&["--skip", "torch"]).unwrap_err(),
            @"--skip: no lane `torch`; lanes are jpeg, onnx-http, onnx-grpc, trt-http, trt-grpc, services are jpeg, onnx, trt"
        );
    }

    #[test]
    fn peers_add_lanes() {
        let lanes = |flags: &[&str]| args(flags).lanes.targets().map(|targets| list(targets.iter().map(|t| t.lane)));
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
    fn lists_are_deduplicated_in_order() {
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
    fn short_flags_are_those_of_other_load_generators() {
        let short = args(&["-m", "a", "-b", "1,8", "-c", "4", "-n", "20", "-d", "2s", "-w", "3"]);
        let long =
            args(&["--model=a", "--batches=1,8", "--concurrency=4", "--iterations=20", "--duration=2s", "--warmup=3"]);
        assert_eq!(short.settings(), long.settings());
        let loads = |flags: &[&str]| args(flags).settings().loads;
        let constant = |rate: &str| format!("constant:{rate}").parse::<LoadSpec>().unwrap();
        assert_eq!(loads(&[]), [LoadSpec::Closed]);
        assert_eq!(loads(&["-q", "50"]), [constant("50")]);
        assert_eq!(
            loads(&["-q", "50", "--rate=5", "--load=closed"]),
            [LoadSpec::Closed, constant("50"), constant("5")]
        );
    }

    #[test]
    fn conditions_are_checked_before_the_run() {
        let check = |flags: &[&str]| {
            let args = args(flags);
            let plan = crate::cli::run::plan(&args, &args.settings(), args.lanes.targets().unwrap());
            plan.map(drop).map_err(|error| error.to_string())
        };
        let on = |condition: &'static str| ["--fail-on", condition];
        for condition in ["error", "p99(onnx-grpc) > 20ms", "throughput(jpeg) < 9 @ concurrency=8"] {
            check(&on(condition)).unwrap();
        }
        check(&["--fail-on", "refuted", "--hypothesis", "p50(jpeg) < p50(onnx-http)"]).unwrap();
        insta::assert_snapshot!(
            [
                check(&on("refuted")).unwrap_err(),
                check(&on("p50(jpeg) > 1s @ batch=7")).unwrap_err(),
                check(&["--fail-on", "p50(jpeg) > 1s", "--skip=jpeg"]).unwrap_err(),
            ]
            .join("\n"),
            @r"
        --fail-on refuted needs a claim: add --hypothesis
        --fail-on 'p50(jpeg) > 1000ms @ batch=7': jpeg is not measured at serial b=7
        --fail-on 'p50(jpeg) > 1000ms @ batch=1': jpeg is not measured at serial b=1
        "
        );
    }

    #[test]
    fn counts_out_of_range_are_usage_errors() {
        for flags in [["--batches", "0"], ["--batches", "1000"], ["--concurrency", "x"], ["--iterations", "0"]] {
            assert!(Cli::try_parse_from(["quintet-bench", "run"].iter().chain(&flags)).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn slo_refuses_flags_of_run_alone() {
        let slo = |flags: &[&str]| Cli::try_parse_from(["quintet-bench", "slo", "--p99", "50ms"].iter().chain(flags));
        slo(&["--preset", "seed", "--connection", "fresh", "--link", "rtt=5ms", "--max-in-flight", "8"]).unwrap();
        for flag in ["batches", "concurrency", "iterations", "load", "warmup", "max-warmup", "blocks", "hypothesis"] {
            let flag = format!("--{flag}");
            let error = slo(&[&flag, "1"]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument, "{flag}");
        }
    }
}
