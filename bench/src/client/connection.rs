//! One connection: HTTP/1.1 or HTTP/2 by hyper, over one socket with counted bytes.
//!
//! gRPC uses the HTTP/2 connection directly instead of a channel of tonic. So the tensor is sent as its own chunk,
//! without a copy into a message buffer, and each connection in the report is one TCP connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    client::{
        call::{CallError, Chunks, HttpVersion, Prepared, Reply},
        dial::{Dialed, dial},
        endpoint::Endpoint,
        tls::Handshake,
        wire::{NotifyRead, Wire},
    },
    model::{connection::TlsVersion, limits::Limits, sample::Marks},
};

/// HTTP/2 windows: large enough that no response waits for a WINDOW_UPDATE.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Largest HTTP/2 frame accepted.
const MAX_FRAME_BYTES: u32 = 1 << 20;

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

    async fn send(&mut self, request: Request<Chunks>) -> Result<http::Response<Incoming>, Failure> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(_) => Failure::NotSent(broke(error.error())),
            None => Failure::Sent(broke(error.error())),
        })
    }
}

/// Why an exchange failed.
enum Failure {
    /// No byte of the request was sent, because the server had closed the connection.
    NotSent(CallError),
    /// The server may have received the request.
    Sent(CallError),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Sent(error)
    }
}

fn broke(error: &hyper::Error) -> CallError {
    CallError::Transport(root_cause(error))
}

/// The task that moves the bytes of an open connection; it ends with its last user.
type Driver = Arc<Task>;

struct Task {
    handle: AbortOnDropHandle<()>,
    /// Cancelled when the socket is closed, which HTTP/2 does in a separate task.
    closed: CancellationToken,
}

/// Longest wait for a socket to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is kept between requests, and opened again if it broke.
pub struct Connection {
    endpoint: Endpoint,
    version: HttpVersion,
    limits: Limits,
    wire: Arc<Wire>,
    open: Option<Open>,
}

/// An open connection.
struct Open {
    sender: Sender,
    driver: Driver,
    /// The TLS handshake, if TLS is used.
    handshake: Option<Handshake>,
    /// The round trip of a packet, where known.
    round_trip: Option<Duration>,
}

impl Open {
    /// The part of the TLS handshake after `started`.
    fn tls_since(&self, started: Instant) -> Option<Duration> {
        self.handshake.map(|tls| tls.ended.saturating_duration_since(tls.began.max(started)))
    }
}

impl Connection {
    /// A connection that is opened on first use.
    pub fn new(endpoint: Endpoint, version: HttpVersion, limits: Limits) -> Self {
        Self::counted(endpoint, version, limits, Arc::default())
    }

    /// As [`Connection::new`], with its traffic counted on `wire`.
    pub fn counted(endpoint: Endpoint, version: HttpVersion, limits: Limits, wire: Arc<Wire>) -> Self {
        Self { endpoint, version, limits, wire, open: None }
    }

    /// Closes the connection, if it is open, and waits until the socket is closed.
    pub async fn close(&mut self) {
        let Some(Open { sender, driver, .. }) = self.open.take() else { return };
        drop(sender);
        if let Some(driver) = Arc::into_inner(driver) {
            drop(driver.handle);
            let _ = timeout(CLOSE_TIMEOUT, driver.closed.cancelled()).await;
        }
    }

    /// A second handle to the same HTTP/2 connection, which is opened if needed; requests run concurrently.
    /// `None` for HTTP/1.1, which carries one request at a time.
    ///
    /// # Errors
    /// [`CallError::Connect`].
    pub async fn share(&mut self) -> Result<Option<Self>, CallError> {
        if self.version == HttpVersion::Http1 {
            return Ok(None);
        }
        self.connect().await?;
        let Some(Open { sender: Sender::Http2(sender), driver, handshake, round_trip }) = &self.open else {
            return Ok(None);
        };
        let (sender, driver) = (Sender::Http2(sender.clone()), Arc::clone(driver));
        Ok(Some(Self {
            endpoint: self.endpoint.clone(),
            version: self.version,
            limits: self.limits,
            wire: Arc::clone(&self.wire),
            open: Some(Open { sender, driver, handshake: *handshake, round_trip: *round_trip }),
        }))
    }

    /// The TLS version of the open connection, if TLS is used.
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
        let closed = CancellationToken::new();
        let Dialed { stream, handshake, round_trip } =
            dial(&self.endpoint, self.version, Arc::clone(&self.wire), closed.clone()).await?;
        let driver = |task| Arc::new(Task { handle: AbortOnDropHandle::new(task), closed });
        // The request in flight gets the driver's error; it is not needed here.
        let (sender, driver) = match self.version {
            HttpVersion::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http1(sender), driver(task))
            }
            HttpVersion::Http2 => {
                let received = CancellationToken::new();
                let io = TokioIo::new(NotifyRead::new(stream, received.clone()));
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_frame_size(MAX_FRAME_BYTES)
                    .handshake(io)
                    .await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                // As in gRPC's libraries, the connection is ready when the server's SETTINGS have arrived.
                received.cancelled().await;
                (Sender::Http2(sender), driver(task))
            }
        };
        Ok(Open { sender, driver, handshake, round_trip })
    }

    /// Sends a request and reads its complete response. After a failure the connection is dropped, and the next call opens
    /// another.
    ///
    /// # Errors
    /// Any [`CallError`] but `Status` and `Malformed`, which are the protocols' to find.
    pub async fn call(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        self.call_since(request, Instant::now()).await
    }

    /// As [`Connection::call`], for a call that began earlier; waiting for the connection is part of its time. If the server
    /// closed the connection before anything was sent, it is opened again, once.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_since(&mut self, request: &Prepared, started: Instant) -> Result<Reply, CallError> {
        let kept = self.open.is_some();
        match self.try_call(request, started).await {
            Err(Failure::NotSent(_)) if kept => self.try_call(request, started).await,
            result => result,
        }
        .map_err(|(Failure::NotSent(error) | Failure::Sent(error))| error)
    }

    async fn try_call(&mut self, request: &Prepared, started: Instant) -> Result<Reply, Failure> {
        self.connect().await?;
        let connected = started.elapsed();
        // Take it, so that a call dropped half-way leaves no connection in an unknown state.
        let Some(mut open) = self.open.take() else {
            return Err(CallError::Transport("not connected".into()).into());
        };
        let limit = self.limits.request_timeout;
        let mut reply = timeout(limit, exchange(&mut open.sender, request, self.limits.max_response_bytes, started))
            .await
            .map_err(|_| CallError::Timeout(limit))??;
        reply.marks.connected = connected;
        reply.marks.tls = open.tls_since(started);
        reply.marks.round_trip = open.round_trip;
        // Otherwise the next request may find the connection open, just before it is closed.
        if !says_close(&reply.headers) {
            self.open = Some(open);
        }
        Ok(reply)
    }
}

/// Whether the server closes the connection after this response (RFC 9112, section 9.6).
fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(http::header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

async fn exchange(
    sender: &mut Sender,
    request: &Prepared,
    max_bytes: usize,
    started: Instant,
) -> Result<Reply, Failure> {
    sender.ready().await.map_err(|error| Failure::NotSent(broke(&error)))?;
    let sent = Arc::default();
    let prepared = request.request(Arc::clone(&sent));
    let encoded = started.elapsed();
    let (head, mut body) = sender.send(prepared).await?.into_parts();
    let first_byte = started.elapsed();
    // A server may respond before it has read the whole request.
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
        match frame.map_err(|error| broke(&error))?.into_data() {
            Ok(chunk) => {
                received += chunk.len();
                if received > max_bytes {
                    return Err(CallError::TooLarge(max_bytes).into());
                }
                reply.chunks.push(chunk);
            }
            Err(frame) => reply.trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    reply.marks.last_byte = started.elapsed();
    Ok(reply)
}

/// An error with its sources in one line; hyper's message alone says too little.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
