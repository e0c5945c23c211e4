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
        let Dialed { stream, handshake } =
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
        Ok(Open { sender, driver, handshake })
    }

    /// Sends a request and reads its complete response. After a failure the connection is dropped, and the next call opens
    /// another.
    ///
    /// # Errors
    /// Any [`CallError`] but `Status` and `Malformed`, which are the protocols' to find.
    pub async fn call(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        self.call_since(request, Instant::now()).await
    }

    /// As [`Connection::call`], for a call that began earlier; waiting for the connection is part of its time.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_since(&mut self, request: &Prepared, started: Instant) -> Result<Reply, CallError> {
        self.connect().await?;
        let connected = started.elapsed();
        // Take it, so that a call dropped half-way leaves no connection in an unknown state.
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
