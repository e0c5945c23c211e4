//! Clients that stay silent, do not read, or have the server do more than they pay for. Time is virtual.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use super::{raw::Raw, *};
use crate::{
    connection::Timeouts,
    frame::{self, ErrorCode, flag, kind},
};

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_the_goaway_is_left() {
    let mut raw = Raw::start().await;
    let ping = frame::frame(kind::PING, 0, 0, &[0; 8]);
    // Fills the socket and the queue of control frames.
    let flood = async {
        loop {
            raw.client.write_all(&ping).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(60), raw.serving).await.expect("it waits for the client");
    assert!(matches!(ended.unwrap(), Err(Error::Protocol(ErrorCode::SettingsTimeout))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_acknowledge_the_settings_is_told() {
    let mut raw = Raw::start().await;
    let (header, payload) = raw.next().await.unwrap();
    assert_eq!((header.kind, payload[7]), (kind::GOAWAY, ErrorCode::SettingsTimeout as u8));
    assert!(raw.serving.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_asked_then_left() {
    let mut raw = Raw::start().await;
    raw.send(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[])).await;
    let head = raw.head(flag::END_HEADERS, 1, "/wait");
    raw.send(&head).await;
    for _ in 0..3 {
        let (header, payload) = raw.next().await.unwrap();
        assert_eq!(header.kind, kind::PING);
        raw.send(&frame::frame(kind::PING, flag::ACK, 0, &payload)).await;
    }
    assert_eq!(raw.next().await.unwrap().0.kind, kind::PING);
    assert_eq!(raw.next().await.unwrap().0.kind, kind::GOAWAY);
    assert!(matches!(raw.serving.await.unwrap(), Err(Error::Silent)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_idle_client_is_not_asked() {
    let mut raw = Raw::start().await;
    raw.send(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[])).await;
    let day = Duration::from_secs(24 * 60 * 60);
    assert!(tokio::time::timeout(day, raw.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_silent_client() {
    let server = start();
    let mut client = server.client;
    client.write_all(&[PREFACE, &frame::settings(&[])].concat()).await.unwrap();
    tokio::task::yield_now().await;
    server.shutdown.cancel();
    let shortly = Timeouts::default().goodbye + Duration::from_secs(1);
    tokio::time::timeout(shortly, server.serving).await.expect("it waits").unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_stall_the_connection() {
    let mut raw = Raw::start().await;
    let head = raw.head(flag::END_HEADERS, 1, "/unread");
    raw.send(&head).await;
    // Its body is dropped before anything comes.
    let chunk = frame::frame(kind::DATA, 0, 1, &vec![0; 1 << 20]);
    let mut windows = [i64::from(frame::DEFAULT_WINDOW_BYTES), 16 << 20];
    // Three times the window of the connection.
    for _ in 0..192 {
        while windows.iter().any(|window| *window < 1 << 20) {
            let (header, payload) = raw.next_frame().await.unwrap();
            if header.kind == kind::WINDOW_UPDATE {
                windows[header.stream as usize] += i64::from(u32::from_be_bytes(*payload.first_chunk().unwrap()));
            }
        }
        raw.send(&chunk).await;
        windows = windows.map(|window| window - (1 << 20));
    }
}

#[tokio::test]
async fn a_frame_for_one_stream_does_not_poll_the_others() {
    static POLLS: AtomicUsize = AtomicUsize::new(0);
    const STREAMS: u32 = 500;
    let polls = || {
        futures_util::stream::poll_fn(|_| {
            POLLS.fetch_add(1, Relaxed);
            std::task::Poll::<Option<Result<Frame<Bytes>, BoxError>>>::Pending
        })
    };
    let (mut client, server) = tokio::io::duplex(100_000);
    let handler = Custom(move |_| Response::new(Body::new(StreamBody::new(polls()))));
    let serving = tokio::spawn(serve(server, handler, Options::default(), std::future::pending()));
    let mut encoder = crate::hpack::Encoder::default();
    let mut bytes = [PREFACE, &frame::settings(&[])].concat();
    for nth in 0..STREAMS {
        bytes.extend(raw::head(&mut encoder, flag::END_HEADERS | flag::END_STREAM, 2 * nth + 1, "/"));
    }
    client.write_all(&bytes).await.unwrap();
    while POLLS.load(Relaxed) < 2 * STREAMS as usize {
        tokio::task::yield_now().await;
    }
    let before = POLLS.load(Relaxed);
    for _ in 0..1000 {
        client.write_all(&frame::window_update(1, 1)).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(POLLS.load(Relaxed), before);
    serving.abort();
}

/// Answers all requests with what the function returns.
struct Custom<F>(F);

impl<F: Fn(Parts) -> Response<Body>> Handler for Custom<F> {
    type ResponseBody = Body;

    fn handle(&self, head: Parts) -> Admission<Body> {
        Admission::Answered(self.0(head))
    }
}
