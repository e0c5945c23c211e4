//! Serves HTTP/1.1 connections until the server stops, then lets the running requests finish.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::Router;
use bytes::{Buf as _, Bytes};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::{
    checked::Checked,
    plain::{HEADER_READ_TIMEOUT, Plain, Settings},
};
use crate::{
    service::Service,
    transport::{access::Access, io_threads::IoThreads, listener::Listener},
};

/// The buffer of one read by hyper: large for few reads, small enough to stay in the CPU's cache until it is copied.
const MAX_BUFFER_BYTES: usize = 128 << 10;

/// Serves `router` until `stop`; then idle connections are closed and busy ones finish their request. Plain bodies are
/// received into the service's pool, up to its limit.
pub async fn serve(
    listener: Listener,
    router: Router,
    service: Arc<Service>,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let settings = Settings::new(router, listener.access().clone(), &service, stop.clone());
    listener.serve(&threads, &stop, move |connection| carry(connection, settings.clone())).await;
}

/// Serves one connection until it ends, or until `stop`. Nothing guards it.
///
/// # Errors
/// When the connection breaks, or the client does not speak HTTP/1.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    service: &Service,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    carry(stream, Settings::new(router, Access::default(), service, stop)).await
}

/// Serves plain requests here, and lets hyper serve the connection from the first unusual request on.
async fn carry(connection: impl AsyncRead + AsyncWrite + Unpin, settings: Settings) -> anyhow::Result<()> {
    let stop = settings.stop.clone();
    let checked = Checked::new(settings.router.clone(), settings.access.clone());
    let Some((connection, read)) = Plain::new(connection, settings).serve().await? else { return Ok(()) };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(MAX_BUFFER_BYTES);
    let io = TokioIo::new(Rewound { read, connection });
    let mut serving = std::pin::pin!(builder.serve_connection(io, checked));
    tokio::select! {
        outcome = serving.as_mut() => outcome?,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await?;
        }
    }
    Ok(())
}

/// A connection with bytes that were read from it before, which are read again first.
struct Rewound<S> {
    read: Bytes,
    connection: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.connection).poll_read(cx, buf);
        }
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
