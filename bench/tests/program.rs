//! The program as a user runs it: exit status, stdout, stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::process::{Command, Output, Stdio};

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
    assert_eq!(report(folder.path()).cells.len(), 3 * 2);
}
