//! One connection: HTTP/1.1 or HTTP/2 by hyper, over one socket whose bytes are counted.
//!
//! gRPC is spoken on the HTTP/2 connection directly rather than through a channel object: the tensor goes
//! out as its own chunk without being encoded into a message buffer first, and a connection in the
//! report is a TCP connection in fact.

use std::{
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    dial::{Dialed, dial},
    shared::Place,
    tls::{Handshake, TlsVersion},
    wire::{Heard, Wire},
};
use crate::{client::target::Endpoint, model::settings::Limits};

/// HTTP/2 windows: large enough that no answer waits for an update.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Largest HTTP/2 frame that we accept.
const MAX_FRAME_BYTES: u32 = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// The system's words.
        reason: String,
    },
    /// No complete answer in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection broke.
    #[error("connection broke: {0}")]
    Transport(String),
    /// The server refused or failed.
    #[error("status {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// HTTP status or gRPC code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The answer is over the limit.
    #[error("answer exceeds {0} bytes (--max-response-bytes)")]
    TooLarge(usize),
    /// The answer cannot be understood.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl CallError {
    /// Short name for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout(_) => "timeout",
            Self::Transport(_) => "transport",
            Self::Status { .. } => "status",
            Self::TooLarge(_) => "too-large",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1, keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge, or agreed on in the TLS handshake.
    Http2,
}

/// A request made once and sent many times: its body's chunks are shared, never copied.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Method.
    pub method: Method,
    /// Path for HTTP/1.1, absolute URI for HTTP/2.
    pub uri: Uri,
    /// Headers, `Host` included where HTTP/1.1 needs it.
    pub headers: HeaderMap,
    /// Body, in pieces.
    pub chunks: Arc<[Bytes]>,
    /// Where in shared memory the output goes, if it does.
    pub output: Option<Place>,
}

impl Prepared {
    /// Length of the body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The request; `sent` is set when the last of its body was handed to the system.
    fn request(&self, sent: Arc<OnceLock<Instant>>) -> Request<Chunks> {
        let mut request = Request::new(Chunks { chunks: Arc::clone(&self.chunks), next: 0, sent });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// When a call had got how far, since its start, on the client's clock. Each mark but `tls`, which is a length, is at or
/// after the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// There was a connection, opened or kept.
    pub connected: Duration,
    /// How much of that was the TLS handshake; `None` where TLS is not spoken.
    #[serde(default)]
    pub tls: Option<Duration>,
    /// The request was made and handed to the connection.
    pub encoded: Duration,
    /// The system had taken the last byte of the request.
    pub sent: Duration,
    /// The head of the answer was there.
    pub first_byte: Duration,
    /// The answer was complete.
    pub last_byte: Duration,
    /// The answer was found to be a success.
    pub decoded: Duration,
}

/// A complete answer.
#[derive(Debug)]
pub struct Reply {
    /// When the call began.
    pub started: Instant,
    /// How it went on.
    pub marks: Marks,
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Trailers; gRPC's status is here.
    pub trailers: HeaderMap,
    chunks: Vec<Bytes>,
}

impl Reply {
    /// Length of the body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The body in one piece.
    pub fn body(&self) -> Bytes {
        match &self.chunks[..] {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

/// A request body of shared chunks.
struct Chunks {
    chunks: Arc<[Bytes]>,
    next: usize,
    sent: Arc<OnceLock<Instant>>,
}

/// A chunk that tells when its last byte was taken: the connection advances it as the socket takes bytes.
struct Chunk {
    bytes: Bytes,
    sent: Option<Arc<OnceLock<Instant>>>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(sent) = self.sent.as_ref().filter(|_| !self.bytes.has_remaining()) {
            let _ = sent.set(Instant::now());
        }
    }
}

impl Body for Chunks {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let bytes = self.chunks.get(self.next).cloned();
        self.next += 1;
        let sent = (self.next == self.chunks.len()).then(|| Arc::clone(&self.sent));
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(Chunk { bytes, sent }))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunks.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum())
    }
}

enum Sender {
    Http1(http1::SendRequest<Chunks>),
    Http2(http2::SendRequest<Chunks>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Chunks>) -> hyper::Result<http::Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// The task that moves the bytes of an open connection; it ends with its last user.
type Driver = Arc<Task>;

struct Task {
    handle: AbortOnDropHandle<()>,
    /// Cancelled when the socket is closed: HTTP/2 does that in a task of its own.
    gone: CancellationToken,
}

/// Longest wait for a socket to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is kept, and opened anew when it broke.
pub struct Connection {
    endpoint: Endpoint,
    version: HttpVersion,
    limits: Limits,
    wire: Arc<Wire>,
    open: Option<Open>,
}

/// What is open.
struct Open {
    sender: Sender,
    driver: Driver,
    /// How TLS began on it, where it is spoken.
    handshake: Option<Handshake>,
}

impl Open {
    /// How much of the TLS handshake was since some time.
    fn tls_since(&self, started: Instant) -> Option<Duration> {
        self.handshake.map(|tls| tls.ended.saturating_duration_since(tls.began.max(started)))
    }
}

impl Connection {
    /// A connection that is opened when first needed.
    pub fn new(endpoint: Endpoint, version: HttpVersion, limits: Limits) -> Self {
        Self::counted(endpoint, version, limits, Arc::default())
    }

    /// The same, counted on a lane's wire.
    pub fn counted(endpoint: Endpoint, version: HttpVersion, limits: Limits, wire: Arc<Wire>) -> Self {
        Self { endpoint, version, limits, wire, open: None }
    }

    /// Closes the connection, if it is open, and waits until the socket is closed.
    pub async fn close(&mut self) {
        let Some(Open { sender, driver, .. }) = self.open.take() else { return };
        drop(sender);
        if let Some(driver) = Arc::into_inner(driver) {
            drop(driver.handle);
            let _ = timeout(CLOSE_TIMEOUT, driver.gone.cancelled()).await;
        }
    }

    /// Another user of the same HTTP/2 connection, which is opened if need be: requests run side by side.
    /// `None` for HTTP/1.1, which carries one request at a time.
    ///
    /// # Errors
    /// [`CallError::Connect`].
    pub async fn share(&mut self) -> Result<Option<Self>, CallError> {
        if self.version == HttpVersion::Http1 {
            return Ok(None);
        }
        self.connect().await?;
        let Some(Open { sender: Sender::Http2(sender), driver, handshake }) = &self.open else { return Ok(None) };
        let (sender, driver) = (Sender::Http2(sender.clone()), Arc::clone(driver));
        Ok(Some(Self {
            endpoint: self.endpoint.clone(),
            version: self.version,
            limits: self.limits,
            wire: Arc::clone(&self.wire),
            open: Some(Open { sender, driver, handshake: *handshake }),
        }))
    }

    /// The version of TLS that is spoken on the open connection, if any.
    pub fn tls(&self) -> Option<TlsVersion> {
        self.open.as_ref()?.handshake.map(|handshake| handshake.version)
    }

    /// Opens the connection unless it is open.
    ///
    /// # Errors
    /// [`CallError::Connect`].
    pub async fn connect(&mut self) -> Result<(), CallError> {
        if self.open.as_ref().is_some_and(|open| !open.sender.is_closed()) {
            return Ok(());
        }
        self.open = None;
        let opened = match timeout(self.limits.connect_timeout, self.dial()).await {
            Ok(result) => result.map_err(|error| root_cause(error.as_ref())),
            Err(_) => Err(format!("no connection within {:.1} s", self.limits.connect_timeout.as_secs_f64())),
        };
        let open = opened.map_err(|reason| CallError::Connect { endpoint: self.endpoint.to_string(), reason })?;
        self.open = Some(open);
        Ok(())
    }

    async fn dial(&self) -> Result<Open, Box<dyn std::error::Error + Send + Sync>> {
        let gone = CancellationToken::new();
        let Dialed { stream, handshake } =
            dial(&self.endpoint, self.version, Arc::clone(&self.wire), gone.clone()).await?;
        let driver = |task| Arc::new(Task { handle: AbortOnDropHandle::new(task), gone });
        // The driver's error reaches the request in flight; on its own it says nothing more.
        let (sender, driver) = match self.version {
            HttpVersion::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http1(sender), driver(task))
            }
            HttpVersion::Http2 => {
                let heard = CancellationToken::new();
                let io = TokioIo::new(Heard::new(stream, heard.clone()));
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_frame_size(MAX_FRAME_BYTES)
                    .handshake(io)
                    .await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                // As gRPC's own libraries do: a channel is ready when the server's SETTINGS are there.
                heard.cancelled().await;
                (Sender::Http2(sender), driver(task))
            }
        };
        Ok(Open { sender, driver, handshake })
    }

    /// Sends a request and reads its whole answer. After a failure the connection is given up, and the
    /// next call opens another.
    ///
    /// # Errors
    /// Any [`CallError`] but `Status` and `Malformed`, which are the protocols' to find.
    pub async fn call(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        self.call_since(request, Instant::now()).await
    }

    /// The same for a call that began before: waiting for the connection is a part of it.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_since(&mut self, request: &Prepared, started: Instant) -> Result<Reply, CallError> {
        self.connect().await?;
        let connected = started.elapsed();
        // Taken, so that a call dropped half-way does not leave a connection in an unknown state.
        let Some(mut open) = self.open.take() else {
            return Err(CallError::Transport("not connected".into()));
        };
        let limit = self.limits.request_timeout;
        let mut reply = timeout(limit, exchange(&mut open.sender, request, self.limits.max_response_bytes, started))
            .await
            .map_err(|_| CallError::Timeout(limit))??;
        reply.marks.connected = connected;
        reply.marks.tls = open.tls_since(started);
        self.open = Some(open);
        Ok(reply)
    }
}

async fn exchange(
    sender: &mut Sender,
    request: &Prepared,
    max_bytes: usize,
    started: Instant,
) -> Result<Reply, CallError> {
    let transport = |error: hyper::Error| CallError::Transport(root_cause(&error));
    sender.ready().await.map_err(transport)?;
    let sent = Arc::default();
    let prepared = request.request(Arc::clone(&sent));
    let encoded = started.elapsed();
    let (head, mut body) = sender.send(prepared).await.map_err(transport)?.into_parts();
    let first_byte = started.elapsed();
    // A server may answer before it has read everything.
    let sent = sent.get().map_or(encoded, |&at| (at - started).min(first_byte));
    let mut reply = Reply {
        started,
        marks: Marks { encoded, sent, first_byte, ..Marks::default() },
        status: head.status,
        headers: head.headers,
        trailers: HeaderMap::new(),
        chunks: Vec::new(),
    };
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        match frame.map_err(transport)?.into_data() {
            Ok(chunk) => {
                received += chunk.len();
                if received > max_bytes {
                    return Err(CallError::TooLarge(max_bytes));
                }
                reply.chunks.push(chunk);
            }
            Err(frame) => reply.trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    reply.marks.last_byte = started.elapsed();
    Ok(reply)
}

/// An error's chain in one line: hyper's own words alone say too little.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_words_stands_alone() {
        let status = |message: &str| CallError::Status { code: "404".into(), message: message.into() }.to_string();
        assert_eq!([status(""), status("no such page")], ["status 404", "status 404: no such page"]);
    }
}
