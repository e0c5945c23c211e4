//! Tests with a client that sends arbitrary bytes.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::{
    frame::{self, FrameHeader, HEADER_BYTES, flag, kind},
    hpack,
};

/// Flags of HEADERS that are a complete request.
const COMPLETE: u8 = flag::END_HEADERS | flag::END_STREAM;

pub(super) struct Raw {
    pub(super) client: DuplexStream,
    encoder: hpack::Encoder,
    pub(super) serving: JoinHandle<Result<(), Error>>,
}

/// A request's HEADERS frame.
pub(super) fn head(encoder: &mut hpack::Encoder, flags: u8, stream: u32, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path)];
    encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
    frame::frame(kind::HEADERS, flags, stream, &block)
}

impl Raw {
    pub(super) async fn start() -> Self {
        let Server { client, serving, .. } = start();
        let mut raw = Self { client, encoder: hpack::Encoder::default(), serving };
        raw.send(&[PREFACE, &frame::settings(&[])].concat()).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// A request's HEADERS frame.
    pub(super) fn head(&mut self, flags: u8, stream: u32, path: &str) -> Vec<u8> {
        head(&mut self.encoder, flags, stream, path)
    }

    pub(super) async fn next_frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.client.read_exact(&mut header).await.ok()?;
        let header = FrameHeader::parse(header);
        let mut payload = vec![0; header.length as usize];
        self.client.read_exact(&mut payload).await.ok()?;
        Some((header, payload))
    }

    /// The next frame but for SETTINGS and WINDOW_UPDATE.
    pub(super) async fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            let frame = self.next_frame().await?;
            if !matches!(frame.0.kind, kind::SETTINGS | kind::WINDOW_UPDATE) {
                return Some(frame);
            }
        }
    }
}

#[tokio::test]
async fn a_connection_error_is_sent_and_returned() {
    let mut raw = Raw::start().await;
    let head = raw.head(flag::END_HEADERS, 1, "/wait");
    raw.send(&[head, frame::window_update(0, 0)].concat()).await;
    let (header, payload) = raw.next().await.unwrap();
    assert_eq!((header.kind, &payload[..]), (kind::GOAWAY, &[0, 0, 0, 1, 0, 0, 0, 1][..]));
    // The connection ends.
    assert!(raw.next().await.is_none());
    let error = raw.serving.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the client broke a rule of HTTP/2: PROTOCOL_ERROR");
}

#[tokio::test]
async fn a_body_that_fails_resets_its_stream() {
    let mut raw = Raw::start().await;
    let head = raw.head(COMPLETE, 1, "/broken");
    raw.send(&head).await;
    assert_eq!(raw.next().await.unwrap().0.kind, kind::HEADERS);
    let (header, payload) = raw.next().await.unwrap();
    assert_eq!((header.kind, &payload[..]), (kind::RST_STREAM, &[0, 0, 0, 2][..]));
}

#[tokio::test]
async fn a_request_is_answered_in_one_write() {
    let mut raw = Raw::start().await;
    tokio::task::yield_now().await;
    let mut preface = [0; 1000];
    let _ = raw.client.read(&mut preface).await.unwrap();
    let head = raw.head(flag::END_HEADERS, 1, "/whole");
    let body = frame::frame(kind::DATA, flag::END_STREAM, 1, b"abc");
    raw.send(&[head, body].concat()).await;
    let mut response = [0; 1000];
    let length = raw.client.read(&mut response).await.unwrap();
    let mut kinds = Vec::new();
    let mut rest = &response[..length];
    while let Some((header, payload)) = rest.split_first_chunk() {
        let header = FrameHeader::parse(*header);
        kinds.push(header.kind);
        rest = &payload[header.length as usize..];
    }
    // Data in two parts is one frame.
    assert_eq!(kinds, [kind::HEADERS, kind::DATA, kind::HEADERS]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_client_does_not_drain_control_frames() {
    let mut raw = Raw::start().await;
    let ping = frame::frame(kind::PING, 0, 0, &[0; 8]);
    // Far more than the socket and the server keep; were they kept, all would be read.
    let flood = async {
        for _ in 0..100_000 {
            raw.client.write_all(&ping).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err());
    assert!(!raw.serving.is_finished());
}

#[tokio::test]
async fn a_response_without_data_does_not_wait_for_the_window_of_the_connection() {
    let mut raw = Raw::start().await;
    raw.send(&frame::settings(&[(frame::setting::INITIAL_WINDOW_SIZE, 1 << 20)])).await;
    // Two responses that together exceed the connection's window, then one without data.
    for stream in [1, 3] {
        let head = raw.head(flag::END_HEADERS, stream, "/whole");
        raw.send(&[head, frame::frame(kind::DATA, flag::END_STREAM, stream, &[0; 60_000])].concat()).await;
    }
    let head = raw.head(COMPLETE, 5, "/whole");
    raw.send(&head).await;
    while {
        let (header, _) = raw.next().await.unwrap();
        !(header.stream == 5 && header.has(flag::END_STREAM))
    } {}
    // The others continue.
    raw.send(&frame::window_update(0, 1 << 20)).await;
    while {
        let (header, _) = raw.next().await.unwrap();
        !(header.stream == 3 && header.has(flag::END_STREAM))
    } {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// For any bytes from the client, the server neither panics nor hangs: it continues, or ends the connection.
    #[test]
    fn arbitrary_frames_never_panic(
        sent in prop::collection::vec((0u8..12, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
        cut in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut raw = Raw::start().await;
            let mut bytes = Vec::new();
            for (kind, flags, stream, payload) in &sent {
                bytes.extend(match kind {
                    // Good heads, or hardly any stream would open.
                    10 => raw.head(COMPLETE, *stream, "/whole"),
                    11 => raw.head(flag::END_HEADERS, *stream, "/streamed"),
                    _ => frame::frame(*kind, *flags, *stream, payload),
                });
            }
            for chunk in bytes.chunks(cut) {
                if raw.client.write_all(chunk).await.is_err() {
                    break;
                }
            }
            drop(raw.client);
            let ended = tokio::time::timeout(Duration::from_secs(10), raw.serving).await;
            let _ = ended.expect("it hangs").expect("it panicked");
        });
    }
}
