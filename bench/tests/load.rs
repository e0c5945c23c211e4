//! Connections, open loops, payloads and transports against a scripted suite.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::{num::NonZeroU16, sync::atomic::Ordering, time::Duration};

use quintet_bench::{
    client::{
        payload::{Payload, Photograph},
        target::Target,
    },
    model::{
        arrivals::LoadSpec, cell::Cell, connection::Policy, encoding::Encoding, lane::Lane, limits::Limits, load::Load,
        report::Report, settings::Settings, transport::Transport,
    },
    report::{exporter::Exporter as _, markdown::Markdown},
    run::{progress::Silent, setup::Run},
};
use support::{MODEL, Script, Suite};
use tokio_util::sync::CancellationToken;

const LANES: [Lane; 3] = [Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC];

async fn run(suite: &Suite, settings: Settings) -> Report {
    let targets = LANES.map(|lane| Target {
        lane,
        endpoint: suite.address(lane.kind.name()),
        metrics: suite.address(if lane == Lane::JPEG { "jpeg" } else { "onnx-metrics" }),
        model: MODEL.into(),
    });
    let photographs = [Photograph { name: "1.jpg".into(), bytes: vec![1; 100].into() }];
    let payload = Payload::new(&photographs, 1, support::preprocess).unwrap();
    let output = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let (targets, progress) = (targets.to_vec(), &Silent);
    Run { settings, targets, payload, output: output.path().to_owned(), progress, resume: None, stop: cancel.into() }
        .run()
        .await
        .unwrap()
        .report
}

fn settings() -> Settings {
    Settings {
        model: MODEL.into(),
        batches: vec![1],
        concurrency: Vec::new(),
        iterations: 6,
        warmup: 1,
        max_warmup: 1,
        blocks: 2,
        ramp: Duration::ZERO,
        ..Settings::default()
    }
}

fn cell(report: &Report, lane: Lane, connection: Policy) -> &Cell {
    report.cells.iter().find(|cell| cell.lane == lane && cell.connection == connection).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fresh_policy_opens_a_connection_for_each_request() {
    let suite = Suite::start(Script::default()).await;
    let connections = vec![Policy::Fresh, Policy::Reused];
    let report = run(&suite, Settings { connections, ..settings() }).await;
    for lane in LANES {
        let (fresh, reused) = (cell(&report, lane, Policy::Fresh), cell(&report, lane, Policy::Reused));
        assert_eq!((fresh.traffic.opened, fresh.traffic.most_open), (6, 1), "{lane}");
        assert_eq!((reused.traffic.opened, reused.traffic.most_open), (0, 1), "{lane}");
        assert_eq!((fresh.reconnects, reused.reconnects), (0, 0));
        let times = |cell: &Cell| cell.times.unwrap();
        assert!(times(fresh).connect_ms.value > times(reused).connect_ms.value, "{lane}");
        for cell in [fresh, reused] {
            assert!(cell.traffic.sent_bytes > 6 * cell.request_bytes as u64, "{lane}: framing counts too");
            assert!(cell.traffic.received_bytes > 6 * cell.response_bytes as u64);
            assert!(times(cell).first_byte_ms.value <= times(cell).last_byte_ms.value);
        }
    }
    // The server accepted those of preflight, warm-up and outputs, and one for each fresh request.
    let accepted = suite.lanes[&Lane::ONNX_HTTP].accepted.load(Ordering::SeqCst);
    assert!(accepted > 1 + 6, "{accepted}");
    let text = Markdown.export(&report).unwrap();
    assert!(text.contains("## Connections") && text.contains("| ONNX gRPC | serial b=1 | fresh | 6 | 1 |"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_shared_connections_is_as_requested() {
    let suite = Suite::start(Script::default()).await;
    let two = Policy::Shared(NonZeroU16::new(2).unwrap());
    let limits = Limits { max_window_requests: 30, ..Limits::default() };
    let connections = vec![two];
    let report =
        run(&suite, Settings { batches: Vec::new(), concurrency: vec![5], connections, limits, ..settings() }).await;
    for lane in LANES {
        let cell = cell(&report, lane, two);
        assert_eq!((cell.traffic.most_open, cell.reconnects), (2, 0), "{lane}");
        assert_eq!((cell.sent, cell.failures.count), (30, 0), "{lane}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_accounts_for_its_whole_schedule() {
    let suite = Suite::start(Script::default()).await;
    let loads = vec!["constant:100".parse().unwrap(), "poisson:50".parse().unwrap()];
    let duration = Duration::from_millis(300);
    let report = run(&suite, Settings { loads, duration, ramp: Duration::from_millis(100), ..settings() }).await;
    assert_eq!(report.cells.len(), 2 * LANES.len());
    for cell in &report.cells {
        let open = cell.open.as_ref().unwrap();
        let schedule = open.schedule;
        assert_eq!(schedule.scheduled, cell.completed + cell.failures.count + schedule.unsent, "{}", cell.lane);
        if let Load::Open { rate, .. } = cell.load
            && cell.load.to_string().starts_with("constant")
        {
            assert_eq!((schedule.scheduled, rate.get()), (30, 100.0));
        }
        let (latency, service) = (cell.latency_ms.as_ref().unwrap(), open.service_ms.as_ref().unwrap());
        assert!(latency.max >= service.max && latency.p50.value >= service.p50.value);
    }
    let text = Markdown.export(&report).unwrap();
    assert!(text.contains("## Open loop") && text.contains("| JPEG HTTP | constant 100/s | 100.0 |"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_replayed() {
    let suite = Suite::start(Script::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    std::fs::write(&path, "0\n0.01\n0.01\n0.05\n").unwrap();
    let loads: Vec<LoadSpec> = vec![format!("replay:{}", path.display()).parse().unwrap()];
    let report = run(&suite, Settings { loads, ..settings() }).await;
    assert!(report.cells.iter().all(|cell| cell.completed + cell.open.as_ref().unwrap().schedule.unsent == 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_payloads_of_an_image_give_the_same_output() {
    let suite = Suite::start(Script::default()).await;
    let payloads = vec![Encoding::Jpeg, Encoding::JpegBase64, Encoding::Fp32, Encoding::Json];
    let report = run(&suite, Settings { payloads, ..settings() }).await;
    let payloads_of = |lane| {
        report.cells.iter().filter(|c| c.lane == lane).map(|c| (c.payload, c.failures.count)).collect::<Vec<_>>()
    };
    assert_eq!(payloads_of(Lane::JPEG), [(Some(Encoding::Jpeg), 0), (Some(Encoding::JpegBase64), 0)]);
    let on_http = [Encoding::Jpeg, Encoding::Fp32, Encoding::Json].map(|payload| (Some(payload), 0));
    assert_eq!(payloads_of(Lane::ONNX_HTTP), on_http);
    assert_eq!(payloads_of(Lane::ONNX_GRPC), on_http[..2]);
    assert!(report.outputs.pairs.iter().all(|pair| pair.agree), "{:?}", report.outputs);
    assert!(Markdown.export(&report).unwrap().contains("## Payloads"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tolerance_follows_the_stated_precision() {
    let skew = Some((Lane::ONNX_GRPC, 1.005));
    for (precision, agree) in [(None, false), (Some("FP16"), true)] {
        let suite = Suite::start(Script { skew, precision, ..Script::default() }).await;
        let report = run(&suite, settings()).await;
        assert!(report.lanes.iter().all(|info| info.precision.as_deref() == precision), "{:?}", report.lanes);
        assert_eq!(report.outputs.pairs.iter().all(|pair| pair.agree), agree, "{:?}", report.outputs);
        assert!(report.outputs.pairs.iter().all(|pair| pair.top1 == Some(1.0)));
        assert!(Markdown.export(&report).unwrap().contains("## Outputs"));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn http_works_over_a_unix_domain_socket() {
    use quintet_bench::client::{call::HttpVersion, connection::Connection, http};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quintet.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let routes = axum::Router::new().route("/health", axum::routing::get(|| async { "ok" }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let endpoint: quintet_bench::client::endpoint::Endpoint = format!("unix:{}", path.display()).parse().unwrap();
    let mut connection = Connection::new(endpoint.clone(), HttpVersion::Http1, Limits::default());
    let reply = connection.call(&http::get(&endpoint, "/health").unwrap()).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body()[..]), (200, &b"ok"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transport_carries_the_same_request() {
    let suite = Suite::start(Script::default()).await;
    let sockets = tempfile::tempdir().unwrap();
    suite.listen_in(sockets.path());
    let transports = vec![Transport::Tcp, Transport::Uds, Transport::Shm];
    let uds_dir = Some(sockets.path().to_owned());
    let report = run(&suite, Settings { transports, uds_dir, concurrency: vec![3], ..short_window(settings()) }).await;
    let cells = |lane, load| report.cells.iter().filter(move |c| (c.lane, c.load) == (lane, load)).collect::<Vec<_>>();
    let loads = [Load::Serial { batch: 1 }, Load::Concurrent { concurrency: 3, batch: 1 }];
    for (lane, load) in LANES.into_iter().flat_map(|lane| loads.map(|load| (lane, load))) {
        let cells = cells(lane, load);
        let transports: Vec<_> = cells.iter().map(|cell| cell.transport).collect();
        let all = [Transport::Tcp, Transport::Uds, Transport::Shm];
        assert_eq!(transports, if lane == Lane::JPEG { &all[..2] } else { &all[..] }, "{lane}");
        for cell in &cells {
            assert_eq!((cell.failures.count, cell.reconnects), (0, 0), "{lane} {} {:?}", cell.transport, cell.failures);
            assert!(cell.completed >= 6);
        }
        if lane != Lane::JPEG {
            let bytes = |cell: &Cell| cell.traffic.sent_bytes / (cell.completed + cell.outside_window);
            assert!(bytes(cells[0]) > 602_112 && bytes(cells[1]) > 602_112 && bytes(cells[2]) < 1_000, "{lane} {load}");
        }
    }
    // The first transport of each lane answers the comparison; all regions are unregistered.
    assert!(report.outputs.pairs.iter().all(|pair| pair.agree), "{:?}", report.outputs);
    assert!(suite.lanes.values().all(|state| state.regions.count() == 0));
    let tables = Markdown.export(&report).unwrap();
    for row in [
        "serial b=1 | gRPC | shared memory |",
        "| gRPC | shared memory |",
        "| HTTP/1.1 | Unix socket |",
        "| HTTP/1.1 | TCP |",
    ] {
        assert!(tables.contains(row), "{row} in {tables}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_read_from_shared_memory() {
    let suite = Suite::start(Script { skew: Some((Lane::ONNX_GRPC, 1.5)), ..Script::default() }).await;
    let report = run(&suite, Settings { transports: vec![Transport::Shm], ..settings() }).await;
    assert!(report.outputs.missing.is_empty(), "{:?}", report.outputs);
    let agree = |a, b| report.outputs.pairs.iter().find(|pair| (pair.a, pair.b) == (a, b)).unwrap().agree;
    assert!(agree(Lane::JPEG, Lane::ONNX_HTTP), "by TCP and by memory");
    assert!(!agree(Lane::ONNX_HTTP, Lane::ONNX_GRPC), "the output in shared memory is compared");
}

/// Ends the window after 30 requests.
fn short_window(settings: Settings) -> Settings {
    let limits = Limits { max_window_requests: 30, ..settings.limits };
    Settings { limits, duration: Duration::from_secs(60), ..settings }
}
