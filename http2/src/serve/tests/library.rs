//! Tests with another library as the client.

use std::{convert::Infallible, time::Duration};

use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

type Library = SendRequest<Full<Bytes>>;

async fn library(client: DuplexStream, builder: impl FnOnce(&mut Builder<TokioExecutor>)) -> Library {
    let mut settings = Builder::new(TokioExecutor::new());
    builder(&mut settings);
    let (library, driving) = settings.handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(driving);
    library
}

async fn exchange(mut library: Library, path: &'static str, body: Bytes) -> (Bytes, Option<HeaderMap>) {
    library.ready().await.unwrap();
    let request = Request::post(format!("http://x{path}")).header("x", "y").body(Full::new(body)).unwrap();
    let answer = library.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let trailers = answer.trailers().cloned();
    (answer.to_bytes(), trailers)
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn the_library_gets_what_it_sent() {
    for small in [false, true] {
        let server = start();
        let library = library(server.client, |builder| {
            if small {
                // Windows that the responses exceed many times.
                builder.initial_stream_window_size(70_000).initial_connection_window_size(70_000);
            } else {
                builder
                    .initial_stream_window_size(1 << 24)
                    .initial_connection_window_size(1 << 25)
                    .max_frame_size(1 << 20);
            }
        })
        .await;
        // More than all windows of the server, over the connection's life.
        for bytes in [0, 1, 5000, 700_000, 20_000_000, 45_000_000, 10] {
            for path in ["/whole", "/streamed"] {
                let sent = pattern(bytes);
                let (body, trailers) = exchange(library.clone(), path, sent.clone()).await;
                assert!(body == sent, "{path} {bytes}: {}", body.len());
                if path == "/whole" {
                    assert_eq!(trailers.unwrap()["length"], bytes.to_string());
                }
            }
        }
    }
}

#[tokio::test]
async fn requests_at_once_do_not_mix() {
    let server = start();
    let library = library(server.client, |builder| {
        builder.initial_stream_window_size(100_000);
    })
    .await;
    let exchanges = (0..100).map(|nth| {
        let (library, path) = (library.clone(), ["/whole", "/streamed"][nth % 2]);
        tokio::spawn(async move {
            let sent = pattern(nth * 7919);
            let (body, _) = exchange(library, path, sent.clone()).await;
            assert!(body == sent, "{path} {nth}");
        })
    });
    for exchange in exchanges.collect::<Vec<_>>() {
        exchange.await.unwrap();
    }
}

#[tokio::test]
async fn an_early_response_costs_only_its_request() {
    let server = start();
    let library = library(server.client, |_| {}).await;
    for _ in 0..3 {
        assert_eq!(exchange(library.clone(), "/early", pattern(3_000_000)).await.0, "early");
        assert_eq!(exchange(library.clone(), "/refused", pattern(30_000_000)).await.0, "refused");
        assert_eq!(exchange(library.clone(), "/whole", pattern(10)).await.0, pattern(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_ends() {
    let mut server = start();
    let library = library(server.client, |_| {}).await;
    for _ in 0..20 {
        let waiting = tokio::spawn(exchange(library.clone(), "/wait", pattern(10_000_000)));
        // It is not cancelled yet.
        assert!(tokio::time::timeout(Duration::from_millis(5), server.cancelled.recv()).await.is_err());
        waiting.abort();
        server.cancelled.recv().await.unwrap();
    }
    // What they sent does not count against the others.
    assert_eq!(exchange(library.clone(), "/whole", pattern(30_000_000)).await.0.len(), 30_000_000);
    let waiting = tokio::spawn(exchange(library.clone(), "/wait", pattern(10)));
    tokio::task::yield_now().await;
    drop(library);
    waiting.abort();
    server.cancelled.recv().await.unwrap();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_requests_finish() {
    let server = start();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let parts = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = StreamBody::new(futures_util::StreamExt::map(parts, |part| Ok::<_, Infallible>(Frame::data(part))));
    let (mut requests, driving) =
        Builder::new(TokioExecutor::new()).handshake(TokioIo::new(server.client)).await.unwrap();
    tokio::spawn(driving);
    let answer = requests.send_request(Request::post("http://x/streamed").body(body).unwrap()).await.unwrap();
    server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!server.serving.is_finished());
    sender.send("late".into()).unwrap();
    drop(sender);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
    server.serving.await.unwrap().unwrap();
    assert!(requests.ready().await.is_err());

    // An idle one ends at once, as does one on which nothing was received.
    let server = start();
    let library = library(server.client, |_| {}).await;
    exchange(library.clone(), "/whole", pattern(1)).await;
    server.shutdown.cancel();
    server.serving.await.unwrap().unwrap();
    let server = start();
    server.shutdown.cancel();
    server.serving.await.unwrap().unwrap();
}
