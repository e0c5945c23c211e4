//! Servers and proxies that behave as others do in practice: they close connections, answer with a page, or fail once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quintet_bench::{
    client::{
        call::{HttpVersion, Prepared},
        connection::Connection,
        endpoint::Endpoint,
        http,
        target::Target,
    },
    link::proxy::{EmulatedLink, Proxy},
    model::{
        arrivals::{Arrivals, Rate, intended},
        lane::Lane,
        limits::Limits,
        variant::Variant,
    },
    run::{clock::RunClock, lane_client::LaneClient, timed::Timed},
    server::scrape::Scraper,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A server of HTTP/1.1 and the number of connections that it accepted.
struct Server {
    endpoint: Endpoint,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Answers the n-th request (from 1) with the text of a whole response. After `Connection: close` it closes.
    async fn start(answer: fn(usize) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (accepted, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let requests = Arc::clone(&requests);
                tokio::spawn(async move {
                    while read_request(&mut stream).await.is_some() {
                        let response = answer(requests.fetch_add(1, Ordering::SeqCst) + 1);
                        if stream.write_all(response.as_bytes()).await.is_err()
                            || response.contains("Connection: close")
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { endpoint, accepted }
    }

    fn lane(&self) -> (LaneClient, Arc<[Prepared]>) {
        lane(self.endpoint.clone(), 1_000)
    }
}

fn target(endpoint: Endpoint) -> Target {
    Target { lane: Lane::JPEG, metrics: endpoint.clone(), endpoint, model: "m".into() }
}

fn lane(endpoint: Endpoint, bytes: usize) -> (LaneClient, Arc<[Prepared]>) {
    let request = http::post(&endpoint, "/embed", &[], vec![vec![0; bytes].into()]).unwrap();
    let clock = RunClock::start(CancellationToken::new());
    let client = LaneClient::new(&target(endpoint), Variant::plain(Lane::JPEG), Limits::default(), clock);
    (client, Arc::new([request]))
}

/// Reads a request with its body; `None` at the end of the stream.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(())
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn closing(_: usize) -> String {
    response("200 OK", "Connection: close\r\n", "{}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closes_is_opened_again() {
    let server = Server::start(closing).await;
    let mut connection = Connection::new(server.endpoint.clone(), HttpVersion::Http1, Limits::default());
    let request = http::post(&server.endpoint, "/embed", &[], vec!["image".into()]).unwrap();
    for number in 1..=60 {
        let reply = connection.call(&request).await;
        assert!(reply.is_ok(), "request {number}: {}", reply.unwrap_err());
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 60);
}

/// The server closes after the client has looked whether the connection is open.
#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_are_reconnects_and_not_failures() {
    let server = Server::start(closing).await;
    let (mut client, requests) = server.lane();
    let block = client.block(&requests, 0..20, |_| {}).await.unwrap();
    assert_eq!(
        (block.recorder.samples().len(), block.recorder.failures.count),
        (20, 0),
        "{:?}",
        block.recorder.failures
    );
    assert_eq!(block.reconnects, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_status_200_is_a_failure() {
    let page = |_| response("200 OK", "Content-Type: text/html\r\n", "<html>log in</html>");
    let (mut client, requests) = Server::start(page).await.lane();
    let block = client.block(&requests, 0..5, |_| {}).await.unwrap();
    assert_eq!(block.recorder.samples().len(), 0, "it would count as a fast answer");
    let first = block.recorder.failures.first.unwrap();
    assert!(first.contains("text/html") && first.contains("log in"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_reading_does_not_end_the_counters() {
    let answer = |number| match number {
        2 => response("503 Service Unavailable", "", ""),
        3 => response("503 Service Unavailable", "Connection: close\r\n", ""),
        _ => response("200 OK", "", &format!("nv_inference_request_success{{model=\"m\"}} {number}\n")),
    };
    let server = Server::start(answer).await;
    let mut scraper = Scraper::new(&target(server.endpoint.clone()), Limits::default());
    assert_eq!(scraper.read().await.unwrap().requests, 1);
    assert!(scraper.read().await.unwrap_err().contains("503"));
    assert!(scraper.read().await.is_err());
    assert_eq!(scraper.read().await.unwrap().requests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_connects_before_its_window() {
    let rate = Rate::per_second(100.0).unwrap();
    let length = Duration::from_millis(200);
    let schedule: Arc<[Duration]> = intended(Arrivals::Constant, rate, length, usize::MAX, 1).into();
    for (answer, reconnects) in [((|_| response("200 OK", "", "{}")) as fn(usize) -> String, false), (closing, true)] {
        let server = Server::start(answer).await;
        let (mut client, requests) = server.lane();
        let window = Timed::single(Duration::ZERO, length);
        let block = client.open_window(requests, Arc::clone(&schedule), window, |_| {}).await.unwrap();
        assert_eq!(block.recorder.failures.count, 0, "{:?}", block.recorder.failures);
        assert_eq!(block.reconnects > 0, reconnects, "{} opened while measuring", block.traffic.opened);
        assert!(server.accepted.load(Ordering::SeqCst) >= schedule.len());
    }
}

/// After an idle time TCP begins again with a small window, which costs round trips.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_after_an_idle_time_is_not_a_sample() {
    let server = Server::start(|_| response("200 OK", "", "{}")).await;
    let link = EmulatedLink::new("rtt=20ms,iw=10".parse().unwrap(), 1).unwrap();
    let proxy = Proxy::start(link, server.endpoint.clone()).await.unwrap();
    let endpoint = server.endpoint.clone().through(proxy.address, Duration::from_millis(20));
    let (mut client, requests) = lane(endpoint, 200_000);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let block = client.block(&requests, 0..5, |_| {}).await.unwrap();
        let latencies: Vec<Duration> = block.recorder.samples().iter().map(|sample| sample.latency).collect();
        // 200 kB are 10, 20, 40 and 67 segments, each after an answer to the ones before.
        let after_idle = block.after_idle.unwrap();
        assert!(after_idle >= Duration::from_millis(3 * 20), "{after_idle:?}");
        assert_eq!(latencies.len(), 5);
        assert!(latencies.iter().min().unwrap() < &after_idle, "{latencies:?}, after idle {after_idle:?}");
        let round_trips: Vec<_> = block.recorder.samples().iter().map(|sample| sample.marks.round_trip).collect();
        assert!(round_trips.iter().flatten().all(|time| *time >= Duration::from_millis(20)), "{round_trips:?}");
    }
}
