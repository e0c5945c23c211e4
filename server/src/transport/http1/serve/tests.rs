//! The timers of a connection over HTTP/1.1, in virtual time: served here (plain requests) and by hyper.

use std::time::Duration;

use axum::{body::Body, routing::any};
use quintet_engine::BufferPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::transport::guard::Timeouts;

const BIG: usize = 300_000;
const SECOND: Duration = Duration::from_secs(1);

/// `/length` returns the length of the body, `/big` [`BIG`] bytes, `/slow` computes for an hour.
fn start() -> (DuplexStream, JoinHandle<Option<Reason>>) {
    let router = Router::new()
        .route("/length", any(|body: Bytes| async move { body.len().to_string() }))
        .route("/big", any(|_: Bytes| async { Body::from(vec![b'b'; BIG]) }))
        .route(
            "/slow",
            any(|_: Bytes| async {
                sleep(SECOND * 3600).await;
                "done"
            }),
        );
    let settings =
        Settings { router, access: Access::default(), pool: BufferPool::new(1 << 20), max_body_bytes: 1 << 20 };
    let guard = Arc::new(Guard::new(Timeouts::default(), CancellationToken::new(), Arc::default()));
    let (client, server) = tokio::io::duplex(1024);
    let serving = async move {
        let stream = Guarded::new(server, Arc::clone(&guard));
        serve_guarded(stream, guard, settings).await.err().and_then(|error| error.downcast().ok())
    };
    (client, tokio::spawn(serving))
}

/// The same request in a form that is plain, and in one that is left to hyper because it has many headers.
fn requests(path: &str, length: usize) -> [String; 2] {
    [0, 70].map(|count| {
        let headers: String = (0..count).map(|index| format!("x-{index}: y\r\n")).collect();
        format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n")
    })
}

/// Reads up to the end of the connection.
async fn rest(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

fn is_408(answer: &str, flag: &str) -> bool {
    answer.starts_with("HTTP/1.1 408 Request Timeout\r\n")
        && answer.contains("connection: close\r\n")
        && answer.contains(flag)
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends_without_an_answer() {
    let (mut client, serving) = start();
    let started = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(serving.await.unwrap(), Some(Reason::FirstByte));
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_head_gets_408() {
    // The first head of a connection, one after a plain request, and one after a request that hyper served.
    let [plain, unusual] = requests("/length", 0);
    for before in [None, Some(plain), Some(unusual)] {
        let (mut client, serving) = start();
        if let Some(before) = before {
            client.write_all(before.as_bytes()).await.unwrap();
            read_until(&mut client, "\r\n\r\n0").await;
            sleep(SECOND * 200).await;
        }
        let started = Instant::now();
        // A byte every 10 seconds.
        let head = b"GET /length HTTP/1.1\r\n";
        let mut sent = 0;
        let answer = loop {
            client.write_all(&head[sent..=sent]).await.unwrap();
            sent += 1;
            tokio::select! {
                answer = rest(&mut client) => break answer,
                () = sleep(SECOND * 10) => {}
            }
        };
        assert_eq!(started.elapsed().as_secs(), 60);
        assert!(is_408(&answer, "--head-timeout-secs"), "{answer}");
        assert_eq!(serving.await.unwrap(), Some(Reason::Head));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_or_drips_gets_408() {
    for request in requests("/length", 100_000) {
        for drips in [false, true] {
            let (mut client, serving) = start();
            client.write_all(request.as_bytes()).await.unwrap();
            client.write_all(&[0; 30_000]).await.unwrap();
            let started = Instant::now();
            let answer = loop {
                tokio::select! {
                    answer = rest(&mut client) => break answer,
                    () = sleep(SECOND) => {}
                }
                if drips {
                    client.write_all(&[0; 100]).await.unwrap();
                }
            };
            // A part of the bytes before counts for the first minute.
            assert!((60..=120).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
            assert!(is_408(&answer, "--min-receive-rate"), "{answer}");
            assert_eq!(serving.await.unwrap(), Some(Reason::Body));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_ends_the_connection() {
    for request in requests("/big", 0) {
        for drips in [false, true] {
            let (mut client, serving) = start();
            client.write_all(request.as_bytes()).await.unwrap();
            let started = Instant::now();
            while !serving.is_finished() {
                sleep(SECOND).await;
                if drips {
                    client.read_exact(&mut [0; 100]).await.unwrap();
                }
            }
            assert_eq!(serving.await.unwrap(), Some(Reason::Answer));
            assert!((60..=62).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends_without_an_answer() {
    for request in requests("/length", 0) {
        let (mut client, serving) = start();
        for _ in 0..3 {
            client.write_all(request.as_bytes()).await.unwrap();
            read_until(&mut client, "\r\n\r\n0").await;
            sleep(SECOND * 299).await;
        }
        let started = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(serving.await.unwrap(), Some(Reason::Idle));
        assert_eq!(started.elapsed().as_secs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_honest_client_at_64_kbit_meets_no_timer() {
    // Two seconds at 64 kbit/s; a pause of 50 seconds follows.
    const BURST: usize = 16_000;
    for index in 0..2 {
        let (mut client, _serving) = start();
        let length = 10 * BURST;
        client.write_all(requests("/length", length)[index].as_bytes()).await.unwrap();
        for _ in 0..10 {
            client.write_all(&[0; BURST]).await.unwrap();
            sleep(SECOND * 52).await;
        }
        read_until(&mut client, &format!("\r\n\r\n{length}")).await;
        // Waits for a slow model.
        client.write_all(requests("/slow", 0)[index].as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\ndone").await;
        client.write_all(requests("/big", 0)[index].as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        let mut left = BIG;
        while left > 0 {
            sleep(SECOND * 52).await;
            let mut part = vec![0; BURST.min(left)];
            client.read_exact(&mut part).await.unwrap();
            left -= part.len();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_reserve_answers_one_probe_and_refuses_the_rest() {
    for (path, status) in [("/healthz", "404"), ("/length", "503")] {
        for request in requests(path, 0) {
            let request = request.replace("POST", "GET");
            let settings = Settings {
                router: Router::new(),
                access: Access::default(),
                pool: BufferPool::new(1 << 20),
                max_body_bytes: 1 << 20,
            };
            let guard = Guard::new(Timeouts::default(), CancellationToken::new(), Arc::default()).in_reserve();
            let (mut client, server) = tokio::io::duplex(4096);
            let serving = tokio::spawn(serve_guarded(server, Arc::new(guard), settings));
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = rest(&mut client).await.to_ascii_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(answer.contains("retry-after: 1\r\n"), status == "503", "{answer}");
            assert_eq!(answer.contains("--max-connections"), status == "503", "{answer}");
            drop(client);
            serving.await.unwrap().unwrap();
        }
    }
}
