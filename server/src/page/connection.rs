//! A client's connection to a lane: one socket, HTTP/1.1 or HTTP/2, with counted bytes and the times of an exchange.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use crate::transport::access::any_certificate;

/// The longest response that is read: that of a classifier has some KiB.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Where a lane listens, and what it speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    /// HTTP/2, as gRPC needs it.
    pub(super) http2: bool,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: response::Parts,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// An exchange, with its times as the client measured them and the bytes on the socket.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) reply: Reply,
    /// Opening the connection, TLS included; nothing on one that was kept.
    pub(super) connect: Duration,
    /// From the start of opening the connection, or else of sending, to the last byte of the response.
    pub(super) total: Duration,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection; it is closed when it is dropped.
pub(super) struct Connection {
    sender: Sender,
    traffic: Arc<Traffic>,
    destination: Destination,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the lane does not accept it.
    pub(super) async fn open(destination: Destination) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(destination.address).await.context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set up the socket")?;
        let traffic = Arc::new(Traffic::default());
        let stream = Counted { stream, traffic: Arc::clone(&traffic) };
        let (sender, driver) = match destination.tls {
            true => {
                let protocol = if destination.http2 { "h2" } else { "http/1.1" };
                let connector = any_certificate::connector(protocol)?;
                let name = destination.address.ip().into();
                let stream = connector.connect(name, stream).await.context("the TLS handshake failed")?;
                handshake(stream, destination.http2).await?
            }
            false => handshake(stream, destination.http2).await?,
        };
        Ok(Self { sender, traffic, destination, _driver: driver })
    }

    /// Whether the lane has closed it.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and reads its response, whose time begins `started`. `opened` is when the connection was open, if it
    /// was opened for this request.
    ///
    /// # Errors
    /// When the connection breaks or the response is too long.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        started: Instant,
        opened: Option<Instant>,
    ) -> anyhow::Result<Exchange> {
        self.address(&mut request)?;
        // A new connection has sent its handshake for this request.
        let before = if opened.is_some() { (0, 0) } else { self.traffic.read() };
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.context("the connection broke")?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.context("the connection broke")?;
                sender.send_request(request).await
            }
        };
        let (head, body) = response.context("the connection broke")?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the response broke off: {error}"))?;
        let total = started.elapsed();
        let after = self.traffic.read();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Exchange {
            reply: Reply { head, body: body.to_bytes(), trailers },
            connect: opened.map_or(Duration::ZERO, |opened| opened - started),
            total,
            sent_bytes: after.0 - before.0,
            received_bytes: after.1 - before.1,
        })
    }

    /// Names the lane in a request: over HTTP/1.1 by a header, over HTTP/2 by the URI.
    fn address(&self, request: &mut Request<Full<Bytes>>) -> anyhow::Result<()> {
        let authority = self.destination.address.to_string();
        if !self.destination.http2 {
            request.headers_mut().insert(header::HOST, HeaderValue::try_from(authority)?);
            return Ok(());
        }
        let scheme = if self.destination.tls { "https" } else { "http" };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()?;
        Ok(())
    }
}

/// Speaks HTTP over an open stream.
async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    http2: bool,
) -> anyhow::Result<(Sender, AbortOnDropHandle<()>)> {
    let stream = TokioIo::new(stream);
    // The request in flight gets the driver's error; it is not needed here.
    if http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok((Sender::Http2(sender), AbortOnDropHandle::new(driver)))
    } else {
        let (sender, connection) = http1::handshake(stream).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok((Sender::Http1(sender), AbortOnDropHandle::new(driver)))
    }
}

/// The bytes on a socket so far.
#[derive(Debug, Default)]
struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    fn read(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}

/// A socket with counted bytes.
struct Counted {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.traffic.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Counted {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.traffic.sent.fetch_add(*bytes as u64, Relaxed);
        }
        written
    }
}
