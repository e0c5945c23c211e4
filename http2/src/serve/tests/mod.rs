//! A served connection: with another library as the client, and with a client that sends whatever a test wants.

mod hostile;
mod library;
mod raw;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::frame::PREFACE;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// `/whole` and `/streamed` answer with their body, `/refused` refuses it at the first byte, `/early` before it;
/// `/wait` never answers, and reports when it is dropped.
#[derive(Clone)]
struct Echo {
    cancelled: mpsc::UnboundedSender<()>,
}

struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn answer(body: Bytes) -> Response<Body> {
    let trailers = HeaderMap::from_iter([("length".parse().unwrap(), body.len().to_string().parse().unwrap())]);
    // In many parts, each of which would be a frame unless they are joined.
    let parts: Vec<Bytes> = body.chunks(body.len() / 9 + 1).map(Bytes::copy_from_slice).collect();
    let frames = parts.into_iter().map(Frame::data).chain([Frame::trailers(trailers)]);
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, BoxError>)));
    Response::new(Body::new(body))
}

struct Collected {
    refuses: bool,
    body: BytesMut,
    /// Bytes of the body that were received; the rest is room.
    filled: usize,
}

impl Intake<Body> for Collected {
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

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.body[self.filled..]
    }

    fn filled(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    fn finish(mut self: Box<Self>) -> ResponseFuture<Body> {
        self.body.truncate(self.filled);
        Box::pin(async move { answer(self.body.freeze()) })
    }
}

impl Handler for Echo {
    type ResponseBody = Body;

    fn handle(&self, head: Parts) -> Admission<Body> {
        let guard = Guard(self.cancelled.clone());
        match head.uri.path() {
            "/streamed" => Admission::Streaming(Box::new(|body| {
                // Each part is answered before the next is there.
                let parts = body.into_data_stream();
                let frames = futures_util::StreamExt::map(parts, |part| part.map(Frame::data).map_err(BoxError::from));
                Box::pin(async { Response::new(Body::new(StreamBody::new(frames))) })
            })),
            "/wait" => Admission::Streaming(Box::new(|body| {
                Box::pin(async move {
                    let _both = (guard, body);
                    std::future::pending().await
                })
            })),
            "/unread" => Admission::Streaming(Box::new(|body| {
                drop(body);
                let never = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
                Box::pin(async { Response::new(Body::new(StreamBody::new(never))) })
            })),
            "/broken" => Admission::Streaming(Box::new(|_| {
                let frames = [Ok(Frame::data("some".into())), Err(BoxError::from("broken"))];
                Box::pin(async { Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames)))) })
            })),
            "/early" => Admission::Answered(answer("early".into())),
            path => Admission::Buffered(Box::new(Collected {
                refuses: path == "/refused",
                body: BytesMut::new(),
                filled: 0,
            })),
        }
    }
}

struct Server {
    client: DuplexStream,
    serving: JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
    cancelled: mpsc::UnboundedReceiver<()>,
}

fn start() -> Server {
    let (client, server) = tokio::io::duplex(100_000);
    let (sender, cancelled) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(serve(server, Echo { cancelled: sender }, Options::default(), shutdown.clone().cancelled_owned()));
    Server { client, serving, shutdown, cancelled }
}
