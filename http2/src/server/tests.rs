//! A connection with the library as its client, and with one that says whatever it likes.

use std::{convert::Infallible, time::Duration};

use crate::{
    frame::{
        self as frames, DEFAULT_WINDOW_BYTES, FrameHeader, HEADER_BYTES, MAX_WINDOW_BYTES, PREFACE, flag, kind, setting,
    },
    hpack::{self, DEFAULT_TABLE_BYTES},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// `/whole` and `/streamed` answer their body, `/refused` refuses it at the first byte, `/early` before it; `/wait`
/// never answers, and tells when it is given up.
#[derive(Clone)]
struct Echo {
    given_up: mpsc::UnboundedSender<()>,
}

struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn answer(body: Bytes) -> Response<Body> {
    let told = HeaderMap::from_iter([("told".parse().unwrap(), body.len().to_string().parse().unwrap())]);
    // In many parts, a frame each unless they are joined.
    let parts: Vec<Bytes> = body.chunks(body.len() / 9 + 1).map(Bytes::copy_from_slice).collect();
    let frames = parts.into_iter().map(Frame::data).chain([Frame::trailers(told)]);
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, BoxError>)));
    Response::new(Body::new(body))
}

struct Whole {
    refuses: bool,
    body: BytesMut,
    /// What is there of it; the rest is room.
    filled: usize,
}

impl Intake<Body> for Whole {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Box<Response<Body>>> {
        if self.refuses {
            return Err(Box::new(answer("refused".into())));
        }
        self.body.truncate(self.filled);
        self.body.extend_from_slice(bytes);
        self.filled += bytes.len();
        // Room that is smaller than most frames.
        self.body.resize(self.filled + 10_000, 0);
        Ok(())
    }

    fn place(&mut self) -> &mut [u8] {
        &mut self.body[self.filled..]
    }

    fn filled(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    fn end(mut self: Box<Self>) -> Answering<Body> {
        self.body.truncate(self.filled);
        Box::pin(async move { answer(self.body.freeze()) })
    }
}

impl Handler for Echo {
    type Body = Body;

    fn begin(&self, head: request::Parts) -> Taken<Body> {
        let guard = Guard(self.given_up.clone());
        match head.uri.path() {
            "/streamed" => Taken::Streamed(Box::new(|body| {
                // Each part is answered before the next is there.
                let parts = body.into_data_stream();
                let frames = futures_util::StreamExt::map(parts, |part| part.map(Frame::data).map_err(Into::into));
                Box::pin(async { Response::new(Body::new(StreamBody::new(frames))) })
            })),
            "/wait" => Taken::Streamed(Box::new(|body| {
                Box::pin(async move {
                    let _both = (guard, body);
                    std::future::pending().await
                })
            })),
            "/early" => Taken::Answered(answer("early".into())),
            path => Taken::Whole(Box::new(Whole { refuses: path == "/refused", body: BytesMut::new(), filled: 0 })),
        }
    }
}

struct Server {
    client: DuplexStream,
    serving: JoinHandle<Result<(), Broken>>,
    stop: CancellationToken,
    given_up: mpsc::UnboundedReceiver<()>,
}

fn start() -> Server {
    let (client, server) = tokio::io::duplex(100_000);
    let (tell, given_up) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(server, Echo { given_up: tell }, stop.clone().cancelled_owned()));
    Server { client, serving, stop, given_up }
}

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
                // Windows that the answers exceed many times.
                builder.initial_stream_window_size(70_000).initial_connection_window_size(70_000);
            } else {
                builder
                    .initial_stream_window_size(1 << 24)
                    .initial_connection_window_size(1 << 25)
                    .max_frame_size(1 << 20);
            }
        })
        .await;
        // More than the windows of the server together, over the connection's life.
        for bytes in [0, 1, 5000, 700_000, 20_000_000, 45_000_000, 10] {
            for path in ["/whole", "/streamed"] {
                let sent = pattern(bytes);
                let (body, trailers) = exchange(library.clone(), path, sent.clone()).await;
                assert!(body == sent, "{path} {bytes}: {}", body.len());
                if path == "/whole" {
                    assert_eq!(trailers.unwrap()["told"], bytes.to_string());
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
async fn what_is_answered_early_costs_only_itself() {
    let server = start();
    let library = library(server.client, |_| {}).await;
    for _ in 0..3 {
        assert_eq!(exchange(library.clone(), "/early", pattern(3_000_000)).await.0, "early");
        assert_eq!(exchange(library.clone(), "/refused", pattern(30_000_000)).await.0, "refused");
        assert_eq!(exchange(library.clone(), "/whole", pattern(10)).await.0, pattern(10));
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_ends() {
    let mut server = start();
    let library = library(server.client, |_| {}).await;
    for _ in 0..20 {
        let waiting = tokio::spawn(exchange(library.clone(), "/wait", pattern(10_000_000)));
        // Too early to have been given up.
        assert!(tokio::time::timeout(Duration::from_millis(5), server.given_up.recv()).await.is_err());
        waiting.abort();
        server.given_up.recv().await.unwrap();
    }
    // What they sent does not count against the others.
    assert_eq!(exchange(library.clone(), "/whole", pattern(30_000_000)).await.0.len(), 30_000_000);
    let waiting = tokio::spawn(exchange(library.clone(), "/wait", pattern(10)));
    tokio::task::yield_now().await;
    drop(library);
    waiting.abort();
    server.given_up.recv().await.unwrap();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_lets_requests_finish() {
    let server = start();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let parts = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = StreamBody::new(futures_util::StreamExt::map(parts, |part| Ok::<_, Infallible>(Frame::data(part))));
    let (mut requests, driving) =
        Builder::new(TokioExecutor::new()).handshake(TokioIo::new(server.client)).await.unwrap();
    tokio::spawn(driving);
    let answer = requests.send_request(Request::post("http://x/streamed").body(body).unwrap()).await.unwrap();
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!server.serving.is_finished());
    sender.send("late".into()).unwrap();
    drop(sender);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
    server.serving.await.unwrap().unwrap();
    assert!(requests.ready().await.is_err());

    // An idle one ends at once, as does one where nobody has said anything yet.
    let server = start();
    let library = library(server.client, |_| {}).await;
    exchange(library.clone(), "/whole", pattern(1)).await;
    server.stop.cancel();
    server.serving.await.unwrap().unwrap();
    let server = start();
    server.stop.cancel();
    server.serving.await.unwrap().unwrap();
}

/// A client by hand.
struct Raw {
    client: DuplexStream,
    encoder: hpack::Encoder,
    serving: JoinHandle<Result<(), Broken>>,
}

impl Raw {
    async fn start() -> Self {
        let Server { client, serving, .. } = start();
        let mut raw = Self { client, encoder: hpack::Encoder::default(), serving };
        raw.send(&[PREFACE, &frames::settings(&[])].concat()).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// A request's HEADERS frame.
    fn head(&mut self, flags: u8, stream: u32, path: &str) -> Vec<u8> {
        let mut block = Vec::new();
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", path)];
        self.encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
        frames::frame(kind::HEADERS, flags, stream, &block)
    }

    /// The next frame that is none of the usual ones about the connection.
    async fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            let mut header = [0; HEADER_BYTES];
            self.client.read_exact(&mut header).await.ok()?;
            let header = FrameHeader::parse(header);
            let mut payload = vec![0; header.length as usize];
            self.client.read_exact(&mut payload).await.ok()?;
            if !matches!(header.kind, kind::SETTINGS | kind::WINDOW_UPDATE) {
                return Some((header, payload));
            }
        }
    }

    /// The code of the GOAWAY that comes next, behind which the connection ends.
    async fn rule(mut self) -> u32 {
        let (header, payload) = self.next().await.unwrap();
        assert_eq!(header.kind, kind::GOAWAY, "{header:?}");
        assert!(self.next().await.is_none());
        assert!(self.serving.await.unwrap().unwrap_err().to_string().starts_with("the client broke a rule"));
        u32::from_be_bytes(*payload.last_chunk().unwrap())
    }

    /// The code of the RST_STREAM that comes next for `stream`.
    async fn reset(&mut self, stream: u32) -> u32 {
        let (header, payload) = self.next().await.unwrap();
        assert_eq!((header.kind, header.stream), (kind::RST_STREAM, stream), "{header:?}");
        u32::from_be_bytes(*payload.first_chunk().unwrap())
    }

    /// Whether a plain request on this stream is answered.
    async fn works(&mut self, stream: u32) {
        let head = self.head(flag::END_HEADERS | flag::END_STREAM, stream, "/whole");
        self.send(&head).await;
        let (header, _) = self.next().await.unwrap();
        assert_eq!((header.kind, header.stream), (kind::HEADERS, stream), "{header:?}");
        let (header, _) = self.next().await.unwrap();
        assert_eq!((header.kind, header.flags & flag::END_STREAM), (kind::HEADERS, flag::END_STREAM));
    }
}

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

#[tokio::test]
async fn rules_of_the_connection() {
    let data = |stream, payload: &[u8]| frames::frame(kind::DATA, 0, stream, payload);
    let bad_hpack = frames::frame(kind::HEADERS, WHOLE, 1, &[0xff; 5]);
    let unfinished = frames::frame(kind::HEADERS, 0, 1, &[0x82]);
    let oversized = FrameHeader { length: (1 << 20) + 1, kind: kind::DATA, flags: 0, stream: 1 }.bytes().to_vec();
    let endless = [unfinished.clone(), frames::frame(kind::CONTINUATION, 0, 1, &vec![0x82; 65_536])].concat();
    for (code, sent) in [
        (1, data(1, b"idle")),
        (1, data(0, b"connection")),
        (1, frames::frame(kind::HEADERS, WHOLE, 2, &[0x82])),
        (1, frames::frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[])),
        (1, [unfinished.clone(), frames::frame(kind::PING, 0, 0, &[0; 8])].concat()),
        (1, [unfinished, frames::frame(kind::CONTINUATION, 0, 3, &[])].concat()),
        (1, frames::frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[9, 0x82])),
        (1, frames::frame(kind::RST_STREAM, 0, 1, &[0; 4])),
        (1, frames::window_update(1, 5)),
        (1, frames::window_update(0, 0)),
        (1, frames::frame(kind::PUSH_PROMISE, 0, 1, &[0; 4])),
        (1, frames::settings(&[(setting::ENABLE_PUSH, 2)])),
        (1, frames::settings(&[(setting::MAX_FRAME_SIZE, 100)])),
        (3, frames::settings(&[(setting::INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES + 1)])),
        (3, frames::window_update(0, MAX_WINDOW_BYTES)),
        (6, oversized),
        (6, frames::frame(kind::SETTINGS, 0, 0, &[0; 5])),
        (6, frames::frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        (6, frames::frame(kind::PING, 0, 0, &[0; 7])),
        (9, bad_hpack),
        (11, endless),
    ] {
        let mut raw = Raw::start().await;
        raw.send(&sent).await;
        assert_eq!(raw.rule().await, code, "{:?}", &sent[..sent.len().min(30)]);
    }
    // Another protocol, and a connection that begins with something else.
    for hello in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), [PREFACE, &frames::frame(kind::PING, 0, 0, &[0; 8])].concat()] {
        let Server { client, serving, .. } = start();
        let mut raw = Raw { client, encoder: hpack::Encoder::default(), serving };
        raw.send(&hello).await;
        assert_eq!(raw.rule().await, 1);
    }
}

#[tokio::test]
async fn rules_of_a_stream() {
    let mut raw = Raw::start().await;
    // No path, then a request that is answered: the table of fields is as it should be.
    raw.send(&frames::frame(kind::HEADERS, WHOLE, 1, &[0x83, 0x86])).await;
    assert_eq!(raw.reset(1).await, 1);
    raw.works(3).await;
    let head = raw.head(flag::END_HEADERS, 5, "/wait");
    raw.send(&[head, frames::window_update(5, 0)].concat()).await;
    assert_eq!(raw.reset(5).await, 1);
    let head = raw.head(flag::END_HEADERS, 7, "/wait");
    raw.send(&[head, frames::window_update(7, MAX_WINDOW_BYTES)].concat()).await;
    assert_eq!(raw.reset(7).await, 3);
    // Behind its end.
    let head = raw.head(WHOLE, 9, "/wait");
    raw.send(&[head, frames::frame(kind::DATA, 0, 9, b"more")].concat()).await;
    assert_eq!(raw.reset(9).await, 5);
    // Headers in the middle that do not end it.
    let (head, again) = (raw.head(flag::END_HEADERS, 11, "/wait"), raw.head(flag::END_HEADERS, 11, "/wait"));
    raw.send(&[head, again].concat()).await;
    assert_eq!(raw.reset(11).await, 1);
    // Late frames of closed streams are passed over, as are frames of a type that nobody knows.
    let late = [
        frames::frame(kind::DATA, 0, 11, b"late"),
        frames::window_update(11, 1),
        frames::frame(kind::RST_STREAM, 0, 11, &[0; 4]),
        frames::frame(kind::PRIORITY, 0, 13, &[0; 5]),
        frames::frame(77, 0xff, 13, b"of the future"),
    ];
    raw.send(&late.concat()).await;
    raw.works(13).await;
    // Padding, and a block in three frames.
    let head = raw.head(WHOLE, 15, "/whole");
    let (first, rest) = head[HEADER_BYTES..].split_at(1);
    let block = [
        frames::frame(kind::HEADERS, 0, 15, first),
        frames::frame(kind::CONTINUATION, 0, 15, &[]),
        frames::frame(kind::CONTINUATION, flag::END_HEADERS, 15, rest),
        frames::frame(kind::DATA, flag::PADDED, 15, b"\x03abcPPP"),
        frames::frame(kind::DATA, flag::PADDED | flag::END_STREAM, 15, b"\x02PP"),
    ];
    raw.send(&block.concat()).await;
    assert_eq!(raw.next().await.unwrap().0.kind, kind::HEADERS);
    assert_eq!(raw.next().await.unwrap().1, b"abc");
    assert_eq!(raw.next().await.unwrap().0.flags & flag::END_STREAM, flag::END_STREAM);
    raw.works(17).await;
    // A head that is too large is told so.
    let mut block = Vec::new();
    let long = [b'a'; 20_000];
    let fields = [(":method", &b"POST"[..]), (":scheme", b"http"), (":path", b"/whole"), ("x", &long)];
    raw.encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value)), &mut block);
    raw.send(&frames::frame(kind::HEADERS, WHOLE, 19, &block)).await;
    let (header, payload) = raw.next().await.unwrap();
    assert_eq!((header.kind, header.flags), (kind::HEADERS, WHOLE));
    let mut told = Vec::new();
    hpack::Decoder::new(DEFAULT_TABLE_BYTES).decode(&payload, |name, value| told.push((name, value))).unwrap();
    assert_eq!(told[0], (":status".into(), "431".into()));
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let mut raw = Raw::start().await;
    for stream in 0..MAX_CONCURRENT_STREAMS {
        let head = raw.head(WHOLE, 2 * stream + 1, "/wait");
        raw.send(&head).await;
    }
    let over = 2 * MAX_CONCURRENT_STREAMS + 1;
    let head = raw.head(WHOLE, over, "/wait");
    raw.send(&head).await;
    assert_eq!(raw.reset(over).await, 7);
    // One that goes makes room.
    raw.send(&frames::frame(kind::RST_STREAM, 0, 5, &[0, 0, 0, 8])).await;
    raw.works(over + 2).await;
}

#[tokio::test]
async fn windows_are_kept() {
    let mut raw = Raw::start().await;
    // Within the client's window for a stream, then within the connection's.
    raw.send(&frames::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)])).await;
    let head = raw.head(flag::END_HEADERS, 1, "/whole");
    let body = vec![1; 200_000];
    raw.send(&head).await;
    for chunk in body.chunks(16_384) {
        raw.send(&frames::frame(kind::DATA, 0, 1, chunk)).await;
    }
    raw.send(&frames::frame(kind::DATA, flag::END_STREAM, 1, &[])).await;
    assert_eq!(raw.next().await.unwrap().0.kind, kind::HEADERS);
    assert_eq!(raw.next().await.unwrap().1.len(), 10);
    raw.send(&frames::settings(&[(setting::INITIAL_WINDOW_SIZE, 25)])).await;
    assert_eq!(raw.next().await.unwrap().1.len(), 15);
    raw.send(&frames::window_update(1, 500_000)).await;
    let mut left = DEFAULT_WINDOW_BYTES as usize - 25;
    while left > 0 {
        let (header, payload) = raw.next().await.unwrap();
        assert!(header.kind == kind::DATA && payload.len() <= 16_384);
        left -= payload.len();
    }
    raw.send(&frames::frame(kind::PING, 0, 0, b"in order")).await;
    assert_eq!(raw.next().await.unwrap().1, b"in order");
    raw.send(&frames::window_update(0, 500_000)).await;
    let mut left = body.len() - DEFAULT_WINDOW_BYTES as usize;
    while left > 0 {
        left -= raw.next().await.unwrap().1.len();
    }
    assert_eq!(raw.next().await.unwrap().0.kind, kind::HEADERS);

    // More than the server allows, on one stream.
    let head = raw.head(flag::END_HEADERS, 3, "/wait");
    raw.send(&head).await;
    let chunk = vec![0; 1 << 20];
    for _ in 0..STREAM_WINDOW_BYTES >> 20 {
        raw.send(&frames::frame(kind::DATA, 0, 3, &chunk)).await;
    }
    raw.send(&frames::frame(kind::DATA, 0, 3, b"x")).await;
    assert_eq!(raw.rule().await, 3);
}

#[tokio::test]
async fn who_takes_no_answers_is_not_heard() {
    let mut raw = Raw::start().await;
    let ping = frames::frame(kind::PING, 0, 0, &[0; 8]);
    // Far more than the socket and the server keep; were they kept, all would be read.
    let flood = async {
        for _ in 0..100_000 {
            raw.client.write_all(&ping).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err());
    assert!(!raw.serving.is_finished());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a client says, the server neither panics nor hangs: it goes on, or ends the connection.
    #[test]
    fn arbitrary_frames_never_panic(
        sent in prop::collection::vec((0u8..12, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
        cut in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut raw = Raw::start().await;
            let mut bytes = Vec::new();
            for (kind, flags, stream, payload) in &sent {
                bytes.extend(match kind {
                    // Good heads, or nearly nothing else would ever be reached.
                    10 => raw.head(WHOLE, *stream, "/whole"),
                    11 => raw.head(flag::END_HEADERS, *stream, "/streamed"),
                    _ => frames::frame(*kind, *flags, *stream, payload),
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
