//! Complete runs against a scripted suite, and their reports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::{collections::HashSet, path::Path, sync::atomic::Ordering, time::Duration};

use quintet_bench::{
    cli::run::exit_status,
    client::{
        endpoint::Endpoint,
        payload::{Payload, Photograph},
        target::Target,
    },
    model::{
        cell::Cell,
        hypothesis::Verdict,
        lane::{Lane, Peer},
        limits::Limits,
        load::Load,
        part::Part,
        report::{Report, SCHEMA},
        settings::Settings,
        until_decided::UntilDecided,
        waterfall::Source,
    },
    report::schema,
    run::{
        error::RunError,
        journal::{self, Unfinished},
        progress::Silent,
        setup::{Outcome, Run, Stop},
    },
};
use support::{INFER_US, MODEL, STAGED_INFER_US, STATISTICS_NS, Script, Suite};
use tokio_util::sync::CancellationToken;

/// Requests in the windows of a concurrent load; a window ends when its share is sent.
const WINDOW_REQUESTS: usize = 40;

fn settings() -> Settings {
    Settings {
        model: MODEL.into(),
        batches: vec![1, 2],
        concurrency: vec![3],
        iterations: 8,
        warmup: 2,
        max_warmup: 2,
        blocks: 3,
        duration: Duration::from_secs(60),
        ramp: Duration::ZERO,
        seed: 7,
        hypotheses: Vec::new(),
        limits: Limits { max_window_requests: WINDOW_REQUESTS, ..Limits::default() },
        ..Settings::default()
    }
}

async fn run_with(targets: Vec<Target>, cancel: CancellationToken, output: &Path) -> Result<Outcome, RunError> {
    run_or_resume(targets, cancel.into(), None, output).await
}

async fn run_or_resume(
    targets: Vec<Target>,
    stop: Stop,
    resume: Option<Unfinished>,
    output: &Path,
) -> Result<Outcome, RunError> {
    run_settings(settings(), targets, stop, resume, output).await
}

async fn run_settings(
    settings: Settings,
    targets: Vec<Target>,
    stop: Stop,
    resume: Option<Unfinished>,
    output: &Path,
) -> Result<Outcome, RunError> {
    let photographs: Vec<_> =
        (1..=3_u8).map(|i| Photograph { name: format!("{i}.jpg"), bytes: vec![i; 100].into() }).collect();
    let payload = Payload::new(&photographs, 2, support::preprocess).unwrap();
    let output = output.to_owned();
    Run { settings, targets, payload, output, progress: &Silent, resume, stop }.run().await
}

async fn run(script: Script) -> (Suite, Report) {
    let suite = Suite::start(script).await;
    let output = tempfile::tempdir().unwrap();
    let outcome = run_with(suite.targets(None), CancellationToken::new(), output.path()).await.unwrap();
    (suite, outcome.report)
}

/// Warnings that depend on how the test was built and on how busy the machine is. The scripted counters claim fixed
/// times, so parts and counters may or may not fit the measured times.
const TIMED: [&str; 12] = [
    "client-cost",
    "unoptimised-client",
    "cold-start",
    "engine-build-in-window",
    "parts-do-not-add-up",
    "link-bound",
    "client-saturated",
    "client-steal",
    "client-governor",
    "concurrency-not-reached",
    "unstable",
    "not-paired",
];

fn codes(report: &Report) -> Vec<(&str, Vec<&str>)> {
    let lanes = |lanes: &[Lane]| lanes.iter().map(|lane| lane.kind.name()).collect();
    report
        .warnings
        .iter()
        .filter(|w| !TIMED.contains(&w.code.as_str()))
        .map(|w| (w.code.as_str(), lanes(&w.lanes)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_on_the_metrics_pages_are_read_in_every_block() {
    let (_, report) = run(Script { gpu: true, ..Script::default() }).await;
    for cell in &report.cells {
        assert_eq!(cell.machines.len(), cell.blocks.len(), "{} {}", cell.lane, cell.load);
        for block in &cell.machines {
            let [gpu] = &block.gpus[..] else { panic!("{} {}: {block:?}", cell.lane, cell.load) };
            assert_eq!((gpu.gpu.as_str(), gpu.utilization, gpu.sm_clock_mhz), ("GPU-1", Some(0.9), Some(1410.0)));
        }
    }
    let warned: HashSet<_> =
        report.warnings.iter().filter(|warning| warning.code == "gpu-throttled").flat_map(|w| &w.lanes).collect();
    assert_eq!(warned.len(), 5, "every lane");

    let (_, report) = run(Script::default()).await;
    assert!(report.cells.iter().flat_map(|cell| &cell.machines).all(|block| block.gpus.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lane_is_measured_and_the_counts_agree() {
    let suite = Suite::start(Script::default()).await;
    let output = tempfile::tempdir().unwrap();
    let Outcome { report, folder } =
        run_with(suite.targets(None), CancellationToken::new(), output.path()).await.unwrap();

    assert_eq!(report.cells.len(), 5 * 3);
    for cell in &report.cells {
        assert_eq!((cell.failures.count, cell.reconnects), (0, 0), "{} {}", cell.lane, cell.load);
        let server = cell.server.as_ref().unwrap();
        assert_eq!(Some(server.expected), server.counted, "{} {}", cell.lane, cell.load);
        match cell.load {
            Load::Serial { batch } => {
                assert_eq!((cell.completed, cell.sent, cell.warm_up.sent), (8, 8, 2));
                assert_eq!(cell.blocks.iter().map(|block| block.samples).collect::<Vec<_>>(), [3, 3, 2]);
                assert_eq!((server.requests, server.images), (8, 8 * batch as u64));
                assert_eq!(server.compute_infer_ms, INFER_US as f64 / 1e3);
                assert_eq!(cell.connections, 1);
                let latency = cell.latency_ms.as_ref().unwrap();
                assert!(latency.min <= latency.p50.value && latency.p50.value <= latency.max);
                assert!(latency.p99.known().is_none(), "8 samples have no p99");
            }
            Load::Concurrent { .. } | Load::Open { .. } => {
                assert_eq!(cell.sent, WINDOW_REQUESTS as u64);
                assert_eq!(cell.completed + cell.outside_window, cell.sent);
                assert_eq!(cell.blocks.len(), 3, "dealt into windows");
                let most = 2 * cell.blocks.len() as u64;
                assert!(cell.outside_window <= most, "what the other workers had sent when the last one ended");
                assert_eq!(cell.connections, 3);
            }
        }
        assert_eq!(cell.samples.latency_us.len() as u64, cell.completed);
    }
    // Three workers; the two other connections are those of preflight and counters.
    for (lane, state) in &suite.lanes {
        assert_eq!(state.accepted.load(Ordering::SeqCst), 3 + 2, "TCP connections of {lane}");
    }

    assert_eq!(report.outputs.pairs.len(), 10);
    assert!(report.outputs.pairs.iter().all(|pair| pair.agree));
    assert_eq!(report.speedups.len(), 4, "two pairs at two batch sizes");
    assert!(report.lanes.iter().all(|lane| lane.effective_provider.as_deref() == Some("CPUExecutionProvider")));
    assert_eq!(
        codes(&report),
        [
            ("shared-provider", vec!["jpeg", "onnx-http", "onnx-grpc", "trt-http", "trt-grpc"]),
            ("too-few-samples-for-p99", vec!["jpeg", "onnx-http", "onnx-grpc", "trt-http", "trt-grpc"])
        ]
    );
    assert_eq!(exit_status(&report), 0);

    // The files hold the report.
    let written = Report::read(&folder).unwrap();
    assert_eq!(written.schema, SCHEMA);
    assert!(written == report, "the report reads back equal");
    let schema = serde_json::from_str(&schema::schema().unwrap()).unwrap();
    let json = serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&json).take(3).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    let markdown = std::fs::read_to_string(folder.join("report.md")).unwrap();
    for table in ["Serial p50", "Serial throughput", "gRPC speedup", "Server-side compute", "Concurrent throughput"] {
        assert!(markdown.contains(&format!("## {table}")), "{table}");
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["report.csv", "report.html", "report.json", "report.md", "samples.json.gz"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stage_times_make_a_waterfall() {
    let sources =
        |report: &Report| report.cells.iter().map(|c| c.waterfall.as_ref().unwrap().source).collect::<HashSet<_>>();
    let (_, report) = run(Script { stage_times: true, ..Script::default() }).await;
    assert_eq!(sources(&report), [Source::StageTimes].into());
    for cell in &report.cells {
        let waterfall = cell.waterfall.as_ref().unwrap();
        let infer = waterfall.parts.iter().find(|time| time.part == Part::Infer).unwrap().ms.unwrap();
        assert!((infer.value - STAGED_INFER_US as f64 / 1e3).abs() < 1e-9, "{} {}: {infer:?}", cell.lane, cell.load);
        assert_eq!(infer.n as u64, cell.completed);
        assert_eq!(waterfall.ms(Part::Unknown), None);
    }
    // Without stage times the counters give some stages, and the rest is unknown.
    let (_, report) = run(Script::default()).await;
    assert_eq!(sources(&report), [Source::Counters].into());
    let waterfall = report.cells[0].waterfall.as_ref().unwrap();
    assert_eq!(waterfall.ms(Part::Infer), Some(INFER_US as f64 / 1e3));
    assert!(waterfall.ms(Part::Unknown).is_some() && waterfall.ms(Part::Network).is_none());
}

/// The suite and a stock Triton in one run.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_server_is_measured_together_with_the_suite() {
    let suite = Suite::start(Script { stage_times: true, ..Script::default() }).await;
    let stock = Suite::start(Script { stock: true, ..Script::default() }).await;
    let triton = "triton".parse::<Peer>().unwrap();
    let targets = [suite.targets(None), stock.targets(Some(triton))].concat();
    let output = tempfile::tempdir().unwrap();
    let Outcome { report, folder } = run_with(targets, CancellationToken::new(), output.path()).await.unwrap();

    assert_eq!((report.lanes.len(), report.cells.len()), (10, 10 * 3));
    assert_eq!(exit_status(&report), 0);
    let url = |lane: Lane| &report.lanes.iter().find(|info| info.lane == lane).unwrap().metrics_url[..];
    assert!(url(Lane::ONNX_HTTP.of(triton)).ends_with("/v2/models/scripted/stats"));
    assert!(url(Lane::TRT_GRPC.of(triton)).ends_with("/ModelStatistics"));
    assert!(url(Lane::ONNX_HTTP).ends_with("/metrics"), "without the extension: the metrics page");

    let load = Load::Serial { batch: 1 };
    for lane in Lane::ALL {
        let (own, peer) = (report.cell(lane, load).unwrap(), report.cell(lane.of(triton), load).unwrap());
        // They took turns: their blocks alternate.
        let starts = |cell: &Cell| cell.blocks.iter().map(|block| block.start_s).collect::<Vec<_>>();
        assert!(starts(own)[0] < starts(peer)[1] && starts(peer)[0] < starts(own)[1], "{lane}");
        let difference = report.differences.iter().find(|d| (d.a, d.b, d.load) == (lane, lane.of(triton), load));
        assert!(difference.unwrap().difference.paired, "{lane}");

        assert_eq!(own.waterfall.as_ref().unwrap().source, Source::StageTimes);
        let waterfall = peer.waterfall.as_ref().unwrap();
        if lane == Lane::JPEG {
            assert_eq!(waterfall.source, Source::Client, "it has no counters");
            continue;
        }
        assert_eq!((waterfall.source, peer.server.as_ref().unwrap().counted), (Source::Counters, Some(8)));
        let counted = [Part::Queue, Part::CopyIn, Part::Infer, Part::CopyOut];
        for (part, ns) in counted.into_iter().zip(STATISTICS_NS) {
            assert!((waterfall.ms(part).unwrap() - ns as f64 / 1e6).abs() < 1e-9, "{lane} {}", part.name());
        }
        // The parts without counters are unknown together.
        let unknown: Vec<_> = waterfall.unknown().collect();
        assert_eq!(unknown, [Part::Network, Part::Receive, Part::Parse, Part::Gather, Part::Encode], "{lane}");
        let rest = waterfall.ms(Part::Unknown).unwrap();
        assert!(rest > 0.0 && waterfall.adds_up(), "{lane} {waterfall:?}");
    }
    let between = |a: Lane, b: Lane| report.differences.iter().any(|d| (d.a, d.b) == (a, b));
    assert!(!between(Lane::ONNX_HTTP, Lane::TRT_HTTP.of(triton)), "different lanes of two servers are not compared");
    let markdown = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(markdown.contains("## The same lane of two servers: differences in latency (Hodges-Lehmann, ms)"));
    assert!(markdown.contains("| ONNX HTTP − triton ONNX HTTP |"));
    assert!(Report::read(&folder).unwrap() == report, "the report reads back equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_and_quoted() {
    for lane in Lane::ALL {
        let (_, report) = run(Script { fail: Some((lane, 5)), ..Script::default() }).await;
        for cell in report.cells.iter().filter(|cell| cell.lane != lane) {
            assert_eq!(cell.failures.count, 0);
        }
        let cells: Vec<_> = report.cells.iter().filter(|cell| cell.lane == lane).collect();
        // 3 requests compare outputs, then 10 for each of two batch sizes and one at the head of each of their blocks, then
        // the windows: every fifth of 69 fails.
        let failed: u64 = cells.iter().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum();
        assert_eq!(failed, 69 / 5, "{lane}");
        for cell in cells {
            let accounted = cell.completed + cell.outside_window + cell.failures.count + cell.abandoned;
            assert_eq!(cell.sent, accounted, "no request is dropped silently");
            assert_eq!(cell.server.as_ref().and_then(|s| s.counted), cell.server.as_ref().map(|s| s.expected));
            assert_eq!(cell.reconnects, 0, "a refused request leaves the connection open");
        }
        let warning = report.warnings.iter().find(|w| w.code == "request-errors").unwrap();
        assert_eq!(warning.lanes, [lane]);
        assert!(warning.message.contains("13 of 61") && warning.message.contains("scripted failure"), "{warning:?}");
        assert_eq!(exit_status(&report), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_requests_show_in_the_counts() {
    let (_, report) = run(Script { ghosts: 1, ..Script::default() }).await;
    let mismatch: Vec<_> = codes(&report).into_iter().filter(|(code, _)| *code == "server-count-mismatch").collect();
    assert_eq!(mismatch, [("server-count-mismatch", vec!["onnx-http"]), ("server-count-mismatch", vec!["onnx-grpc"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_other_outputs_is_reported() {
    let (_, report) = run(Script { skew: Some((Lane::TRT_GRPC, 1.01)), ..Script::default() }).await;
    let differing: Vec<_> = codes(&report).into_iter().filter(|(code, _)| *code == "outputs-differ").collect();
    assert_eq!(differing.len(), 4, "one with each other lane: {differing:?}");
    assert!(differing.iter().all(|(_, lanes)| lanes.contains(&"trt-grpc")));
    assert_eq!(exit_status(&report), 0, "a warning, not a failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_header_the_provider_is_unknown() {
    let (_, report) = run(Script { anonymous: true, ..Script::default() }).await;
    assert!(report.lanes.iter().all(|lane| lane.effective_provider.is_none()));
    assert!(codes(&report).iter().all(|(code, _)| *code != "shared-provider"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_keeps_what_it_measured() {
    let cancel = CancellationToken::new();
    // After the comparison (3), the first batch size (2 + 8, and the heads of 3 blocks) and a part of the second.
    let script = Script { cancel: Some((Lane::ONNX_HTTP, 3 + 13 + 4, cancel.clone())), ..Script::default() };
    let suite = Suite::start(script).await;
    let output = tempfile::tempdir().unwrap();
    let Outcome { report, folder } = run_with(suite.targets(None), cancel, output.path()).await.unwrap();
    assert!(report.interrupted);
    assert_eq!(exit_status(&report), 130);
    assert_eq!(report.cell(Lane::ONNX_HTTP, Load::Serial { batch: 1 }).unwrap().completed, 8);
    let partial = report.cell(Lane::ONNX_HTTP, Load::Serial { batch: 2 }).unwrap();
    assert!(partial.completed < 8 && partial.sent == partial.completed + partial.abandoned, "{partial:?}");
    assert!(report.cells.iter().all(|cell| matches!(cell.load, Load::Serial { .. })), "no window was begun");
    assert!(report.warnings.iter().any(|warning| warning.code == "interrupted"));
    assert!(Report::read(&folder).unwrap() == report, "the report reads back equal");
}

/// A run that is stopped and resumed several times measures the same as an uninterrupted run.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_continues_where_it_stopped() {
    // Stopped in the first batch size, in the second, in the window.
    let mut at = vec![3 + 2 + 4, 3 + 10 + 5, 3 + 20 + 10];
    let output = tempfile::tempdir().unwrap();
    let mut resume: Option<Unfinished> = None;
    let report = loop {
        let stop = Stop::from(CancellationToken::new());
        let soon = at.len() % 2 == 1;
        let token = if soon { stop.soon.clone() } else { stop.now.clone() };
        // Measured requests are not repeated, only those of comparison and warm-up.
        let before = resume.take();
        let measured = before.as_ref().map_or(0, |b| b.head.cells.len());
        assert_eq!(measured, 0, "the head has no cells");
        let script = at.first().map(|&at| (Lane::ONNX_HTTP, at, token));
        let suite = Suite::start(Script { cancel: script, ..Script::default() }).await;
        let blocks = before.as_ref().map_or(0, |b| b.entries.len());
        let mut targets = suite.targets(None);
        // The new suite has other ports: put them into the journal's head.
        let outcome = match before {
            None => run_or_resume(targets, stop, None, output.path()).await.unwrap(),
            Some(mut before) => {
                for info in &mut before.head.lanes {
                    let target = targets.iter_mut().find(|target| target.lane == info.lane).unwrap();
                    info.url = target.url();
                    let metrics = info.metrics_url.rsplit_once('/').unwrap().1;
                    info.metrics_url = format!("http://{}/{metrics}", target.metrics);
                }
                run_or_resume(targets, stop, Some(before), output.path()).await.unwrap()
            }
        };
        let journal = outcome.folder.join(journal::FILE);
        if !outcome.report.interrupted {
            assert!(!journal.exists(), "a complete run deletes its journal");
            break outcome.report;
        }
        if soon {
            assert!(outcome.report.cells.iter().all(|cell| cell.abandoned == 0), "the block was completed");
        }
        let unfinished = Unfinished::read(&outcome.folder).unwrap();
        assert!(unfinished.entries.len() > blocks, "blocks were added");
        at.remove(0);
        resume = Some(unfinished);
    };
    assert_eq!(report.resumed_at.len(), 3);
    assert!(report.warnings.iter().any(|warning| warning.code == "resumed"));
    assert_eq!(report.cells.len(), 5 * 3);
    for cell in &report.cells {
        match cell.load {
            Load::Serial { .. } => {
                assert_eq!((cell.completed, cell.sent, cell.abandoned), (8, 8, 0), "{} {}", cell.lane, cell.load);
                assert_eq!(cell.blocks.iter().map(|block| block.samples).collect::<Vec<_>>(), [3, 3, 2]);
                let starts: Vec<_> = cell.blocks.iter().map(|block| block.start_s).collect();
                assert!(starts.is_sorted(), "one clock through all parts: {starts:?}");
                assert!(cell.blocks.last().unwrap().start_s < report.elapsed_s);
            }
            _ => assert_eq!(cell.sent, WINDOW_REQUESTS as u64),
        }
        assert_eq!(cell.server.as_ref().map(|server| Some(server.expected) == server.counted), Some(true));
    }
    assert!(report.differences.iter().all(|d| !matches!(d.load, Load::Serial { .. }) || d.difference.paired));
}

/// Claims about two loads: each load goes on until its claim is decided, also when the run is stopped and resumed.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_until_decided_is_resumed_where_it_stopped() {
    let settings = Settings {
        batches: vec![1],
        until_decided: Some(UntilDecided { most: Duration::from_secs(120), margin: 0.02 }),
        hypotheses: vec![
            "p50(onnx-http) < p50(trt-http) @ batch=1".parse().unwrap(),
            "throughput(onnx-http) > throughput(trt-http) @ concurrency=3".parse().unwrap(),
        ],
        ..settings()
    };
    let stop = Stop::from(CancellationToken::new());
    // After the comparison, the warm-up and the first two blocks.
    let cancel = Some((Lane::ONNX_HTTP, 3 + 2 + 8, stop.soon.clone()));
    let slow = Some((Lane::TRT_HTTP, Duration::from_millis(25)));
    let suite = Suite::start(Script { cancel, slow, ..Script::default() }).await;
    let output = tempfile::tempdir().unwrap();
    let run = |stop, resume| run_settings(settings.clone(), suite.targets(None), stop, resume, output.path());
    let stopped = run(stop, None).await.unwrap();
    assert!(stopped.report.interrupted && stopped.folder.join(journal::FILE).exists());
    let before = Unfinished::read(&stopped.folder).unwrap();
    let Outcome { report, folder } = run(CancellationToken::new().into(), Some(before)).await.unwrap();
    assert!(!report.interrupted && !folder.join(journal::FILE).exists());
    let user: Vec<_> = report.hypotheses.iter().filter(|finding| finding.name == "user").collect();
    assert_eq!(user.len(), 2);
    for finding in user {
        let judged = &finding.claims[0];
        assert_eq!(judged.verdict, Verdict::Supported, "{judged:?}");
        let after = judged.decided_after.unwrap();
        let left = report.cell(Lane::ONNX_HTTP, judged.claim.load).unwrap();
        assert_eq!(after.blocks, left.blocks.len(), "the load ends with the verdict");
        assert_eq!(judged.effect.unwrap().blocks, after.blocks);
        assert!(after.blocks >= 4, "{after:?}");
    }
    assert_eq!(report.cells.len(), 4, "two loads of the two lanes that the claims are about");
    for cell in &report.cells {
        let starts: Vec<_> = cell.blocks.iter().map(|block| block.start_s).collect();
        assert!(starts.is_sorted(), "one clock through all parts: {starts:?}");
        assert_eq!(cell.server.as_ref().map(|server| Some(server.expected) == server.counted), Some(true));
    }
    assert!(report.warnings.iter().any(|warning| warning.code == "resumed"));
    assert!(Report::read(&folder).unwrap() == report, "the report reads back equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_run_is_not_resumed() {
    let cancel = CancellationToken::new();
    let script = Script { cancel: Some((Lane::JPEG, 8, cancel.clone())), ..Script::default() };
    let suite = Suite::start(script).await;
    let output = tempfile::tempdir().unwrap();
    let folder = run_with(suite.targets(None), cancel, output.path()).await.unwrap().folder;
    let mut unfinished = Unfinished::read(&folder).unwrap();
    let mut targets = suite.targets(None);
    unfinished.head.settings.iterations = 9;
    targets.retain(|target| target.lane != Lane::TRT_GRPC);
    let error =
        run_or_resume(targets, CancellationToken::new().into(), Some(unfinished), output.path()).await.unwrap_err();
    let error = error.to_string().replace(&folder.display().to_string(), "DIR");
    assert!(error.starts_with("cannot resume the run in DIR, because these values have changed:"), "{error}");
    assert!(error.contains("\n  settings.iterations was 9, is 8\n"), "{error}");
    assert!(error.contains("\n  lanes: trt-grpc is missing\n"), "{error}");
    assert!(
        matches!(Unfinished::read(&folder), Ok(unfinished) if unfinished.entries.len() > 1),
        "the journal is unchanged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_window_counts_what_it_abandoned() {
    let cancel = CancellationToken::new();
    // In the middle of a window of the lane, which come after 3 + 13 + 13 requests.
    let script = Script { cancel: Some((Lane::JPEG, 29 + 18, cancel.clone())), ..Script::default() };
    let suite = Suite::start(script).await;
    let output = tempfile::tempdir().unwrap();
    let report = run_with(suite.targets(None), cancel, output.path()).await.unwrap().report;
    let cell = report.cell(Lane::JPEG, Load::Concurrent { concurrency: 3, batch: 1 }).unwrap();
    assert!(cell.sent < WINDOW_REQUESTS as u64);
    assert_eq!(cell.sent, cell.completed + cell.outside_window + cell.abandoned);
    assert_eq!(cell.failures.count, 0, "an abandoned request has not failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_missing_lanes_are_named_with_a_remedy() {
    let suite = Suite::start(Script::default()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut targets = suite.targets(None);
    for target in &mut targets {
        match target.lane {
            Lane::TRT_HTTP | Lane::TRT_GRPC => target.endpoint = closed.to_string().parse::<Endpoint>().unwrap(),
            Lane::ONNX_HTTP | Lane::JPEG => target.model = "resnet50".into(),
            _ => {}
        }
    }
    let output = tempfile::tempdir().unwrap();
    let error = run_with(targets, CancellationToken::new(), output.path()).await.unwrap_err().to_string();
    let message = error
        .replace(&closed.to_string(), "CLOSED")
        .replace(&suite.address("jpeg").to_string(), "JPEG")
        .replace(&suite.address("onnx-http").to_string(), "ONNX");
    insta::assert_snapshot!(message);
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0, "no empty report is left behind");
}
