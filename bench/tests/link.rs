//! The emulated link on real sockets: bytes, order, end of stream, and no transfer faster than the link.
//!
//! Upper bounds depend on the machine: `link::model` checks them in virtual time to 3 %, and an ignored test here checks
//! them by hand.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::time::{Duration, Instant};

use quintet_bench::{
    client::{
        call::HttpVersion,
        endpoint::Endpoint,
        payload::{Payload, Photograph},
        target::Target,
    },
    link::{
        self,
        measure::{Rate, measure},
        proxy::{EmulatedLink, Proxy},
    },
    model::{lane::Lane, limits::Limits, link::LinkSpec, load::Load, settings::Settings},
    run::{progress::Silent, setup::Run},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A server that answers each `request_bytes` with `answer_bytes`.
async fn server(request_bytes: usize, answer_bytes: usize) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; request_bytes];
                while stream.read_exact(&mut request).await.is_ok() {
                    stream.write_all(&vec![7; answer_bytes]).await.unwrap();
                }
            });
        }
    });
    address.to_string().parse().unwrap()
}

async fn proxy(spec: &str, server: Endpoint) -> Proxy {
    Proxy::start(EmulatedLink::new(spec.parse().unwrap(), 1).unwrap(), server).await.unwrap()
}

async fn call(stream: &mut TcpStream, request_bytes: usize, answer_bytes: usize) -> Duration {
    let start = Instant::now();
    stream.write_all(&vec![1; request_bytes]).await.unwrap();
    let mut answer = vec![0; answer_bytes];
    stream.read_exact(&mut answer).await.unwrap();
    start.elapsed()
}

/// A fresh connection takes the time of handshake and slow start, a kept one does not.
#[tokio::test(flavor = "multi_thread")]
async fn each_connection_takes_its_round_trips() {
    const RTT: Duration = Duration::from_millis(20);
    for (bytes, rounds) in [(51_350, 3), (602_112, 6), (2_408_448, 8)] {
        let proxy = proxy("rtt=20ms", server(bytes, 100).await).await;
        let start = Instant::now();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        call(&mut stream, bytes, 100).await;
        let fresh = start.elapsed();
        assert!(fresh >= RTT * (1 + rounds), "{bytes} bytes in {fresh:?}");
        let kept = call(&mut stream, bytes, 100).await;
        assert!(kept >= RTT, "{bytes} bytes in {kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_faster_than_the_rate() {
    let proxy = proxy("rtt=2ms,up=40mbit,down=8mbit", server(500_000, 100_000).await).await;
    let mut streams =
        [TcpStream::connect(proxy.address).await.unwrap(), TcpStream::connect(proxy.address).await.unwrap()];
    let [a, b] = &mut streams;
    let start = Instant::now();
    tokio::join!(call(a, 500_000, 100_000), call(b, 500_000, 100_000));
    // One megabyte at 5 MB/s shared by both; the first answer may begin before the last request ends.
    assert!(start.elapsed() >= Duration::from_millis(200 + 100), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bytes_arrive_in_order_before_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy =
        proxy("rtt=4ms,jitter=4ms,up=200mbit", listener.local_addr().unwrap().to_string().parse().unwrap()).await;
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let sending = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let receiving = async {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        server.write_all(b"got it").await.unwrap();
        server.shutdown().await.unwrap();
        received
    };
    let (answer, received) = tokio::join!(sending, receiving);
    assert!(received == sent);
    assert_eq!(answer, b"got it");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_connection_ends() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = proxy("rtt=1ms", closed.to_string().parse().unwrap()).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // closed or reset
    assert!(answer.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_a_link_reports_the_link() {
    let suite = support::Suite::start(support::Script::default()).await;
    let link: LinkSpec = "rtt=20ms,iw=10".parse().unwrap();
    let lanes = [Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC];
    let target = |lane: Lane| Target {
        lane,
        endpoint: suite.address(lane.kind.name()),
        metrics: suite.address(if lane == Lane::JPEG { "jpeg" } else { "onnx-metrics" }),
        model: support::MODEL.into(),
    };
    let mut targets: Vec<_> = lanes.into_iter().map(target).collect();
    let _proxies = link::between(link, 1, &mut targets).await.unwrap();
    let photographs = [Photograph { name: "1.jpg".into(), bytes: vec![1; 100].into() }];
    let settings = Settings {
        model: support::MODEL.into(),
        batches: vec![1],
        concurrency: Vec::new(),
        iterations: 6,
        warmup: 1,
        blocks: 2,
        duration: Duration::from_secs(1),
        ramp: Duration::ZERO,
        seed: 1,
        link: Some(link),
        ..Settings::default()
    };
    let output = tempfile::tempdir().unwrap();
    let run = Run {
        settings,
        targets,
        payload: Payload::new(&photographs, 1, support::preprocess).unwrap(),
        output: output.path().to_owned(),
        progress: &Silent,
        resume: None,
        stop: CancellationToken::new().into(),
    };
    let outcome = run.run().await.unwrap();
    for lane in lanes {
        let latency = outcome.report.cell(lane, Load::Serial { batch: 1 }).unwrap().latency_ms.clone().unwrap();
        assert!(latency.min >= 20.0, "{lane}: {latency:?}");
        let info = outcome.report.lanes.iter().find(|info| info.lane == lane).unwrap();
        assert!(
            info.url.ends_with(&suite.address(lane.kind.name()).to_string()),
            "the server's address, not the proxy's"
        );
    }
    let json = std::fs::read_to_string(outcome.folder.join("report.json")).unwrap();
    assert!(json.contains(r#""link":"rtt=20ms,iw=10""#));
    let markdown = std::fs::read_to_string(outcome.folder.join("report.md")).unwrap();
    assert!(markdown.contains("an emulated link, `rtt=20ms,iw=10`"));
    assert!(markdown.contains("## Predicted beside measured"), "{markdown}");
}

/// A server that reads every request completely and then returns an error.
async fn http_server() -> Endpoint {
    let routes = axum::Router::new()
        .route("/v2", axum::routing::get(|| async { "{\"name\": \"test\"}" }))
        .fallback(|body: axum::body::Bytes| async move { format!("{{\"error\": \"{} bytes\"}}", body.len()) })
        .layer(axum::extract::DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address.to_string().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_measured() {
    let server = http_server().await;
    let direct = measure(&server, HttpVersion::Http1, Limits::default()).await.unwrap();
    assert_eq!(direct.connect_ms.unwrap().n, 20);
    assert!(!matches!(direct.up, Rate::Unknown(_)) && matches!(direct.down, Rate::AtLeast(_)), "{direct:?}");
    // Even loopback retransmits when the machine is busy, so only assert that the value is known.
    assert_eq!(direct.tcp.is_some(), cfg!(all(target_os = "linux", target_env = "gnu")));

    let slow = proxy("rtt=10ms,up=20mbit", server).await;
    let endpoint = slow.address.to_string().parse().unwrap();
    let measured = measure(&endpoint, HttpVersion::Http1, Limits::default()).await.unwrap();
    assert!(measured.request_ms.unwrap().low >= 10.0);
    let Rate::About(bits) = measured.up else { panic!("{measured:?}") };
    assert!((5e6..40e6).contains(&bits), "a rate of 20 Mbit/s, within the precision of a busy machine: {bits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_lane_has_no_download_rate() {
    let suite = support::Suite::start(support::Script::default()).await;
    let limits = Limits::default();
    let measured = measure(&suite.address("onnx-grpc"), HttpVersion::Http2, limits).await.unwrap();
    assert!(!matches!(measured.up, Rate::Unknown(_)) && matches!(measured.down, Rate::Unknown(_)), "{measured:?}");
    assert_eq!(measured.tcp, None);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = measure(&closed.parse().unwrap(), HttpVersion::Http2, limits).await.unwrap_err();
    assert!(error.to_string().contains(&closed), "{error}");
}

/// `cargo test --release -p quintet-bench --test link -- --ignored --nocapture`, on an idle machine.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "times real sockets: by hand, on an idle machine"]
async fn delay_rate_and_round_trips_hold_within_3_percent() {
    async fn median(spec: &str, (up, down): (usize, usize), fresh: bool) -> f64 {
        let proxy = proxy(spec, server(up, down).await).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        if !fresh {
            for _ in 0..8 {
                call(&mut stream, up, down).await; // opens the window
            }
        }
        let mut times = Vec::new();
        for _ in 0..15 {
            if fresh {
                stream = TcpStream::connect(proxy.address).await.unwrap();
            }
            times.push(call(&mut stream, up, down).await.as_secs_f64() * 1e3);
        }
        quintet_bench::analysis::stats::median(&mut times).unwrap()
    }
    for (spec, bytes, fresh, expected_ms) in [
        ("rtt=35ms", (100, 100), false, 35.0),
        ("rtt=35ms", (51_350, 100), true, 35.0 * 4.0),
        ("rtt=35ms", (602_112, 100), true, 35.0 * 7.0),
        ("rtt=35ms", (2_408_448, 100), true, 35.0 * 9.0),
        ("rtt=10ms,up=20mbit", (1_000_000, 100), false, 10.0 + 400.0),
        ("rtt=10ms,down=100mbit", (100, 2_000_000), false, 10.0 + 160.0),
    ] {
        let measured = median(spec, bytes, fresh).await;
        let off = (measured / expected_ms - 1.0) * 100.0;
        println!(
            "{spec} {bytes:?} fresh={fresh}: expected {expected_ms:.1} ms, measured {measured:.2} ms ({off:+.2} %)"
        );
        assert!(off.abs() < 3.0);
    }
}
