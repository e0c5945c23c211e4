//! One connection: HTTP/1.1 or HTTP/2 by hyper, over one socket whose bytes are counted.
//!
//! gRPC is spoken on the HTTP/2 connection directly rather than through a channel object: the tensor goes
//! out as its own chunk without being encoded into a message buffer first, and a connection in the
//! report is a TCP connection in fact.

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
        wire::{Heard, Wire},
    },
    model::{connection::TlsVersion, limits::Limits, sample::Marks},
};

/// HTTP/2 windows: large enough that no answer waits for an update.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Largest HTTP/2 frame that we accept.
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
