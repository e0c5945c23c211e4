//! Plain connections: requests in order, unusual requests, chunks, disconnects, shutdown.

use std::time::Duration;

use axum::routing::{any, post};
use futures_util::stream;
use proptest::prelude::*;
use quintet_engine::{Budget, budget::Bounds, buffer::ALIGNMENT};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::transport::guard::{self, Timeouts};

type End = io::Result<Option<(DuplexStream, Bytes)>>;

/// `/echo` returns the body, `/alignment` the remainder of its address, `/stream` a chunked body. `/wait` never responds,
/// and sends a message when its request is cancelled.
fn start() -> (DuplexStream, JoinHandle<End>, CancellationToken, mpsc::UnboundedReceiver<()>) {
    start_with(BufferPool::new(1 << 20))
}

/// [`start`], with this pool.
fn start_with(pool: BufferPool) -> (DuplexStream, JoinHandle<End>, CancellationToken, mpsc::UnboundedReceiver<()>) {
    let (dropped, cancelled) = mpsc::unbounded_channel();
    struct Guard(mpsc::UnboundedSender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let chunks = || Body::from_stream(stream::iter(["ab", "", "c"].map(Ok::<_, io::Error>)));
    let router = Router::new()
        .route("/echo", any(|body: Bytes| async move { body }))
        .route("/alignment", post(|body: Bytes| async move { format!("{}", body[3..].as_ptr() as usize % ALIGNMENT) }))
        .route("/stream", any(move || async move { chunks() }))
        .route(
            "/wait",
            any(move || async move {
                let _guard = Guard(dropped.clone());
                std::future::pending::<()>().await
            }),
        );
    let stop = CancellationToken::new();
    let settings = Settings { router, access: Access::default(), pool, max_body_bytes: 100_000 };
    let guard = Arc::new(guard::Guard::new(Timeouts::default(), stop.clone(), Arc::default()));
    let (client, server) = tokio::io::duplex(1 << 20);
    (client, tokio::spawn(Plain::new(server, guard, settings).serve()), stop, cancelled)
}

fn post_request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads everything up to `end`.
async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let (mut client, serving, ..) = start();
    let sent = post_request("/echo", "one") + "GET /echo HTTP/1.1\r\n\r\n" + &post_request("/echo", "three");
    client.write_all(sent.as_bytes()).await.unwrap();
    let responses = read_until(&mut client, "three").await;
    let bodies: Vec<_> =
        responses.split("HTTP/1.1 200 OK\r\n").filter_map(|text| text.split("\r\n\r\n").nth(1)).collect();
    assert_eq!(bodies, ["one", "", "three"]);
    assert!(responses.contains("content-length: 3\r\n") && responses.contains("\r\ndate: "), "{responses}");
    drop(client);
    assert!(serving.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn unusual_requests_are_returned_unread() {
    for request in [
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nContent-Length: 100001\r\n\r\na",
        "GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /echo HTTP/1.0\r\n\r\n",
        "HEAD /echo HTTP/1.1\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (mut client, serving, ..) = start();
        // After a plain request: none of its bytes may be lost.
        client.write_all((post_request("/echo", "x") + request).as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\nx").await;
        let (_, rest) = serving.await.unwrap().unwrap().unwrap();
        assert_eq!(rest, request);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked() {
    let (mut client, ..) = start();
    client.write_all(b"GET /stream HTTP/1.1\r\n\r\n").await.unwrap();
    let response = read_until(&mut client, "0\r\n\r\n").await;
    assert!(
        response.contains("transfer-encoding: chunked\r\n")
            && response.ends_with("\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn a_request_is_cancelled_when_its_client_disconnects() {
    let (mut client, serving, _, mut cancelled) = start();
    client.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    // The client is still connected.
    assert!(tokio::time::timeout(Duration::from_millis(20), cancelled.recv()).await.is_err());
    drop(client);
    cancelled.recv().await.unwrap();
    assert!(serving.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_lets_requests_finish() {
    let (mut client, serving, stop, _) = start();
    let sent = post_request("/echo", "late");
    let (first, second) = sent.split_at(sent.len() - 2);
    client.write_all(first.as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    stop.cancel();
    client.write_all(second.as_bytes()).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.contains("connection: close\r\n") && response.ends_with("late"), "{response}");
    assert!(serving.await.unwrap().unwrap().is_none());

    let (_client, serving, stop, _) = start();
    stop.cancel();
    assert!(serving.await.unwrap().unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// The body does not depend on the pieces that the request arrives in, and the bytes after its header are aligned.
    #[test]
    fn any_pieces_give_the_same_aligned_body(length in 3usize..20_000, cuts in prop::collection::vec(1usize..4000, 0..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut client, ..) = start();
            let body = "b".repeat(length);
            for path in ["/echo", "/alignment"] {
                let sent = post_request(path, &body).replace("Host: x", "Inference-Header-Content-Length: 3");
                let mut rest = sent.as_bytes();
                for &cut in &cuts {
                    let (now, later) = rest.split_at(cut.min(rest.len()));
                    client.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = later;
                }
                client.write_all(rest).await.unwrap();
                let end = format!("\r\n\r\n{}", if path == "/echo" { &body } else { "0" });
                read_until(&mut client, &end).await;
            }
        });
    }
}

/// A pool of which 100,000 bytes may be in use, without waiting for more.
fn small_pool() -> BufferPool {
    let bounds = Bounds { bytes: 200_000, largest_body: 100_000, wait: Duration::ZERO, flag: "--max-memory-bytes" };
    BufferPool::within(1 << 20, Budget::new(bounds))
}

#[tokio::test]
async fn a_body_of_which_nothing_came_has_no_memory() {
    let pool = small_pool();
    drop(pool.take(90_000));
    let (idle, mut clients) = (pool.idle_bytes(), Vec::new());
    for _ in 0..20 {
        let (mut client, ..) = start_with(pool.clone());
        client.write_all(b"POST /echo HTTP/1.1\r\nContent-Length: 90000\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((pool.budget().used(), pool.idle_bytes()), (0, idle));
}

#[tokio::test]
async fn a_body_without_memory_is_refused_and_the_connection_stays() {
    let pool = small_pool();
    let (mut client, ..) = start_with(pool.clone());
    let held = pool.take(200_000);
    for body in ["a".repeat(50_000), "b".to_owned()] {
        client.write_all(post_request("/echo", &body).as_bytes()).await.unwrap();
        let response = read_until(&mut client, "}").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(response.contains("\r\nretry-after: 1\r\n") && response.contains("(--max-memory-bytes)"), "{response}");
    }
    drop(held);
    client.write_all(post_request("/echo", "now").as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "now").await.starts_with("HTTP/1.1 200 OK"));
    assert!(pool.budget().refusals() >= 2);
}
