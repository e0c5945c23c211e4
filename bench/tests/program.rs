//! The program as a user runs it: exit status, stdout, stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::process::{Command, Output, Stdio};

use quintet_bench::model::cell::Cell;
use quintet_bench::model::lane::Lane;
use quintet_bench::model::report::Report;
use support::{Script, Suite};
use tokio_util::sync::CancellationToken;

const SMALL: [&str; 5] = ["run", "--batches=1", "--iterations=6", "--concurrency=2", "--max-window-requests=20"];

fn program(suite: &Suite, output: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
    command.args(SMALL).arg("--ramp=0s").args(suite.flags()).arg("--output").arg(output).stdin(Stdio::null());
    command
}

/// Runs the program on another thread: the suite needs those of this runtime.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn report(folder: &std::path::Path) -> Report {
    let run = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    serde_json::from_str(&std::fs::read_to_string(run.join("report.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_go_to_stdout_and_progress_to_stderr_without_colour() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(program(&suite, folder.path())).await;
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("# Five lanes side by side: scripted\n"), "{stdout}");
    assert!(stdout.contains("| JPEG HTTP |") && !stdout.contains("comparing"));
    assert!(stderr.contains("serial b=1: p50") && stderr.contains("report: "), "{stderr}");
    let cells: Vec<_> = stderr.lines().filter(|line| line.contains(": p50 ")).collect();
    assert_eq!(cells.len(), 10, "{stderr}");
    for line in &cells {
        let left = line.rsplit_once("; time left: ").map(|(_, left)| left);
        assert!(left.is_some_and(|left| left.ends_with(" s")), "{line}");
    }
    assert!(cells[9].ends_with("; time left: 0 s"), "{stderr}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'), "no control codes when piped");
    assert_eq!(report(folder.path()).cells.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_name_the_variants_of_a_lane() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    command.args(["--connection=fresh,reused", "--skip=trt,jpeg"]);
    let stderr = String::from_utf8(output(command).await.stderr).unwrap();
    for variant in ["(fresh, fp32, tcp)", "(reused, fp32, tcp)"] {
        assert_eq!(
            stderr.matches(&format!(" requests {variant}; time left: ")).count(),
            4,
            "two lanes, two loads: {stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_claim_is_decided_before_the_fixed_length() {
    let slow = Some((Lane::TRT_HTTP, std::time::Duration::from_millis(25)));
    let suite = Suite::start(Script { slow, ..Script::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    command.args(["--until-decided=20s", "--iterations=60", "--blocks=20"]);
    command.args(["--hypothesis", "p50(onnx-http) < p50(trt-http) @ batch=1"]);
    let output = output(command).await;
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("supported after "), "{stderr}");
    assert!(stdout.contains("| supported | 1 supported | "), "{stdout}");
    assert!(stdout.contains("| decided after "), "{stdout}");
    let report = report(folder.path());
    let judged = &report.hypotheses.last().unwrap().claims[0];
    let after = judged.decided_after.unwrap();
    assert!(after.blocks < 20 && after.requests < 60, "{after:?}");
    assert!(report.settings.until_decided.is_some() && !report.interrupted && report.elapsed_s < 20.0);
    assert_eq!(report.cells.len(), 2, "only what the claim is about");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_not_decided_in_time_says_how_much_longer_it_takes() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    // No verdict on p99 is possible with one request in a block.
    command.args(["--until-decided=2s", "--iterations=20", "--blocks=20"]);
    command.args(["--hypothesis", "p99(onnx-http) < p99(trt-http) @ batch=1"]);
    let output = output(command).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("open after ") && stderr.contains("the time is up after 2 s"), "{stderr}");
    let report = report(folder.path());
    let judged = &report.hypotheses.last().unwrap().claims[0];
    assert!(judged.decided_after.is_none() && judged.reason.as_ref().unwrap().starts_with("open after "), "{judged:?}");
    assert!(!report.interrupted, "it went as long as asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_about_what_is_not_measured_is_a_usage_error() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    for (claim, error) in [
        ("p50(onnx-http) < p50(jpeg) @ batch=9", "a load that is not measured"),
        ("p50(onnx-http) < p50(jpeg) @ batch=1", "jpeg, which is not measured"),
    ] {
        let mut command = program(&suite, folder.path());
        command.args(["--until-decided", "--skip=jpeg", "--hypothesis", claim]);
        let output = output(command).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains(error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_shown_again() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let first = output(program(&suite, folder.path())).await;
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path().join("report.json");
    let show = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
        command.arg("report").arg(&file).arg(format!("--format={format}"));
        output(command)
    };
    let page = String::from_utf8(show("html").await.stdout).unwrap();
    assert!(
        page.starts_with("<!doctype html>")
            && page.ends_with("</html>\n")
            && page.contains("<figcaption>Latency by batch")
    );
    let plot = String::from_utf8(show("svg").await.stdout).unwrap();
    assert!(
        plot.starts_with("<svg xmlns=") && plot.contains("class=\"whisker\"") && plot.contains(">JPEG HTTP</text>"),
        "{plot}"
    );
    let again = String::from_utf8(show("markdown").await.stdout).unwrap();
    let first = String::from_utf8(first.stdout).unwrap();
    let tables = |text: &str| text.split("## Warnings").next().unwrap().to_owned();
    assert_eq!(tables(&again), tables(&first));
    // The scripted counters claim more time than the client measured.
    assert!(again.contains("`engine-build-in-window`"), "{again}");
    assert!(!again.contains("`throughput-not-measured`") && !again.contains("`fresh-connections`"), "{again}");
    let csv = String::from_utf8(show("csv").await.stdout).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 * 2);
    let missing = output({
        let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
        command.args(["report", "no-such-file.json"]);
        command
    });
    assert_eq!(missing.await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_holds_is_exit_status_3() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    let held = "p50(onnx-grpc) > 1us";
    command.args(["--fail-on", held, "--fail-on", "p50(jpeg) > 60s @ concurrency=2"]);
    let output = output(command).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("--fail-on")).collect();
    assert!(
        matches!(&lines[..], [line] if line.starts_with("--fail-on 'p50(onnx-grpc) > 0.001ms @ batch=1': ")),
        "{stderr}"
    );
    assert!(String::from_utf8(output.stdout).unwrap().contains("## Warnings"), "the report is printed all the same");

    let report = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path().join("report.json");
    let again = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_quintet-bench")).args(arguments).output().unwrap().status;
        status.code()
    };
    let file = report.to_str().unwrap();
    assert_eq!(again(&["report", file, "--fail-on", held]), Some(3));
    assert_eq!(again(&["report", file, "--fail-on", "p50(onnx-grpc) > 60s"]), Some(0));
    assert_eq!(again(&["compare", file, file, "--fail-on", held]), Some(3));
    assert_eq!(again(&["compare", file, file, "--fail-on", "p99(onnx-grpc) > 60s"]), Some(3), "too few for p99");
    assert_eq!(again(&["report", file, "--fail-on", "p50(onnx) > 60s"]), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cell_states_what_its_requests_cost_the_client() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(program(&suite, folder.path())).await;
    let cells = report(folder.path()).cells;
    assert!(cells.iter().all(|cell| cell.client_ms.is_some_and(|ms| ms.low > 0.0)), "{:?}", output.stderr);
    assert!(String::from_utf8(output.stdout).unwrap().contains("## What the client itself costs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_reports_are_exported_and_compared() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    output(program(&suite, folder.path())).await;
    let run = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let file = run.join("report.json");
    let shown = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_quintet-bench")).args(arguments).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json: Vec<Report> = serde_json::from_str(&shown(&["report", "--format=json"])).unwrap();
    assert_eq!((json.len(), json[0].cells.len()), (1, 10));
    let csv = shown(&["report", "--format=csv"]);
    assert_eq!(csv, std::fs::read_to_string(run.join("report.csv")).unwrap(), "there is one form");
    let log = shown(&["report", "--format=hlog"]);
    assert!(log.lines().filter(|line| line.starts_with("Tag=onnx-grpc_b1_reused_fp32_tcp,")).count() > 1, "{log}");
    let distributions = folder.path().join("hgrm");
    shown(&["report", "--hgrm", distributions.to_str().unwrap()]);
    assert_eq!(std::fs::read_dir(&distributions).unwrap().count(), 10);
    let compared = shown(&["compare", file.to_str().unwrap()]);
    let table = compared.split("## Differences from the first run, not paired").nth(1).unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.contains("p50 (ms)")).collect();
    assert!(rows.len() == 10 && rows.iter().all(|row| row.ends_with("| undecided |")), "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_are_exit_status_1() {
    let suite = Suite::start(Script { fail: Some((Lane::ONNX_GRPC, 7)), ..Script::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(program(&suite, folder.path())).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("`request-errors` [onnx-grpc]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_lane_is_exit_status_2() {
    let suite = Suite::start(Script::default()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
    let flags = suite.flags().into_iter().filter(|flag| !flag.starts_with("--trt-http-url"));
    command.args(SMALL).args(flags).arg(format!("--trt-http-url=http://{closed}"));
    let output = output(command).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&format!("lane trt-http: no answer at http://{closed}")), "{stderr}");
    assert!(stderr.contains("--skip trt-http"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_exit_status_2() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    for (flags, reason) in [
        (&["--data=random"][..], "does not describe the model's inputs"),
        (&["--data=photos", "--shape=x:1"], "photographs have their own shape"),
        (&["--data=zero", "--payload=u8"], "--payload is for photographs"),
        (&["--data=random", "--skip=onnx,trt"], "the jpeg lane takes only images"),
        (&["--header=Authorization: Bearer x"], "--header @FILE"),
    ] {
        let mut command = program(&suite, folder.path());
        command.args(flags);
        let output = output(command).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(reason), "{flags:?}: {stderr}");
    }
    assert!(suite.lanes.values().all(|lane| lane.requests() == 0), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sends_nothing() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    command.arg("--dry-run");
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("if one image takes 20 ms"));
    let accepted: u64 = suite.lanes.values().map(|lane| lane.accepted.load(std::sync::atomic::Ordering::SeqCst)).sum();
    assert_eq!((accepted, std::fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_with_a_report_and_exit_status_130() {
    let reached = CancellationToken::new();
    let suite = Suite::start(Script { cancel: Some((Lane::TRT_HTTP, 5, reached.clone())), ..Script::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    // Only the signal ends it.
    command.args(["--iterations=1000000", "--blocks=1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !reached.is_cancelled() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stdout).unwrap().contains("**Interrupted"));
    let stopped = report(folder.path());
    assert!(stopped.interrupted);
    let run = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&format!("to continue: quintet-bench run --resume {}", run.display())), "{stderr}");

    // A resumed run uses its original flags and refuses others.
    let resume = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
        command.args(["run", "--resume"]).arg(&run).args(flags).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let refused = resume(&["--batches=2"]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let before = suite.lanes[&Lane::TRT_HTTP].requests();
    let mut child = resume(&[]);
    while suite.lanes[&Lane::TRT_HTTP].requests() < before + 20 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The second signal stops it without waiting for the end of the block.
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stdout).unwrap().contains("**Stopped, and resumed at "));
    let resumed = report(folder.path());
    let completed = |report: &Report| report.cells.iter().map(|cell| cell.completed).sum::<u64>();
    assert!(resumed.resumed_at.len() == 1 && completed(&resumed) > completed(&stopped));
}

#[test]
fn the_selftest_passes_in_virtual_time() {
    let output = Command::new(env!("CARGO_BIN_EXE_quintet-bench")).args(["selftest", "--fast"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("| ok | identical lanes: a difference is reported"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_shows_every_probe() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
    command.args(["slo", "--p99=60s", "--start-rate=100", "--max-rate=200", "--duration=300ms", "--ramp=0s"]);
    command.args(["--skip=trt"]).args(suite.flags()).arg("--output").arg(folder.path()).stdin(Stdio::null());
    let output = output(command).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("| onnx-grpc | 200.0 | – |"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.ends_with("| yes |")).count(), 3 * 2, "{stdout}");
    let report = report(folder.path());
    assert_eq!(report.cells.len(), 3 * 2);
    // The lanes take turns: each has a window before the last of every other lane, so differences are paired.
    let at_100 = || report.cells.iter().filter(|cell| cell.load.to_string() == "poisson 100/s");
    let last = |cell: &Cell| cell.blocks.last().unwrap().start_s;
    assert!(at_100().all(|a| at_100().all(|b| a.blocks[0].start_s < last(b))), "{report:?}");
    assert!(at_100().all(|cell| cell.warm_up.sent > 0));
    assert!(report.differences.iter().all(|d| d.difference.paired) && !report.differences.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_loads_and_open_loops_have_batch_sizes() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
    command.args([
        "run",
        "--skip=trt,jpeg",
        "--batches",
        "--concurrency=1,4",
        "--concurrent-batches=1,3",
        "--bound=60s",
    ]);
    command.args(["--load=closed", "--load=constant:40", "--duration=500ms", "--ramp=0s"]).args(suite.flags());
    command.arg("--output").arg(folder.path()).stdin(Stdio::null());
    let stdout = String::from_utf8(output(command).await.stdout).unwrap();
    let report = report(folder.path());
    let loads = report.cells.iter().filter(|cell| cell.lane == Lane::ONNX_HTTP).map(|cell| cell.load.to_string());
    assert_eq!(
        loads.collect::<Vec<_>>(),
        [
            "concurrent c=1",
            "concurrent c=4",
            "concurrent c=1 b=3",
            "concurrent c=4 b=3",
            "constant 40/s",
            "constant 40/s b=3"
        ]
    );
    for cell in &report.cells {
        let server = cell.server.as_ref().unwrap();
        let images = server.images as f64 / server.requests as f64;
        assert!((images / cell.load.batch() as f64 - 1.0).abs() < 0.2, "{}: {images} images a request", cell.load);
        assert!(cell.goodput_per_s.unwrap().value > 0.0, "all answers are within a minute");
    }
    for table in
        ["## Concurrent throughput (img/s)", "## Goodput within 60000 ms (img/s)", "## Peak throughput and knee"]
    {
        assert!(stdout.contains(table), "{table} in {stdout}");
    }
    assert_eq!(report.capacities.len(), 2 * 2, "two lanes, two batch sizes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_scenario_is_invalid_and_says_why() {
    let suite = Suite::start(Script::default()).await;
    for (flags, load, result) in [
        (&["singlestream"][..], "concurrent c=1", "p90 (ms)"),
        (&["multistream", "--min-queries=20"], "concurrent c=1 b=8", "p99 of a query (ms)"),
        (&["offline", "--min-queries=50", "--concurrent-batches=4"], "concurrent c=16 b=4", "samples/s"),
        (
            &["server", "--target-qps=60", "--min-duration=1s", "--min-queries=30", "--bound=1m"],
            "poisson 60/s",
            "queries/s",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
        command.args(["run", "--skip=trt,jpeg", "--ramp=0s", "--min-duration=200ms", "--scenario"]).args(flags);
        command.args(suite.flags()).arg("--output").arg(folder.path()).stdin(Stdio::null());
        let output = output(command).await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
        assert!(stdout.contains("## MLPerf scenario ") && stdout.contains(result), "{stdout}");
        let report = report(folder.path());
        let scenario = report.scenario.as_ref().unwrap();
        assert_eq!(scenario.results.len(), 2);
        for (found, cell) in scenario.results.iter().zip(&report.cells) {
            assert_eq!((found.validity(), cell.load.to_string().as_str()), ("INVALID", load));
            assert!(found.invalid[0].starts_with("too short: ") && found.queries >= scenario.min_queries, "{found:?}");
            assert!(found.value.is_some() || found.queries < 662, "{found:?}");
        }
        let run = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let csv = std::fs::read_to_string(run.join("report.csv")).unwrap();
        assert!(csv.lines().next().unwrap().contains("scenario_validity") && csv.contains(",INVALID,"), "{csv}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_refuses_flags_of_the_plan() {
    for flag in ["--batches=1", "--iterations=3", "--load=closed", "--blocks=2", "--dry-run"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
        command.args(["run", "--scenario=offline", flag]).stdin(Stdio::null());
        assert_eq!(output(command).await.status.code(), Some(2), "{flag}");
    }
}

/// The link carries 20 requests a second, however many are in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_found_to_end_the_scaling() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&suite, folder.path());
    command.args([
        "--skip=trt,jpeg",
        "--batches",
        "--concurrency=1,2,8",
        "--duration=1s",
        "--max-window-requests=1000",
    ]);
    command.args(["--ramp=500ms", "--link=rtt=1ms,up=100mbit"]);
    assert_eq!(output(command).await.status.code(), Some(0));
    let run = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quintet-bench"));
    command.arg("explain").arg(run);
    let stdout = String::from_utf8(output(command).await.stdout).unwrap();
    for line in [
        "## ONNX HTTP, concurrent (reused, fp32, tcp): link",
        "## ONNX gRPC, concurrent (reused, fp32, tcp): link",
        "- Little's law at ",
    ] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
}
