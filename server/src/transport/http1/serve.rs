//! Serves HTTP/1.1 connections until the server stops, then lets the running requests finish.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::Router;
use bytes::{Buf as _, Bytes};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::plain::{HEADER_READ_TIMEOUT, Plain, Settings};
use crate::{
    service::Service,
    transport::{
        io_threads::IoThreads,
        listener::{Connection, Listener},
    },
};

/// The buffer of one read by hyper: large for few reads, small enough to stay in the CPU's cache until it is copied.
const MAX_BUFFER_BYTES: usize = 128 << 10;

/// The longest body that is received where no route takes one.
const MAX_UNUSED_BODY_BYTES: usize = 4 << 10;

/// Serves `router` until `stop`; then idle connections are closed and busy ones finish their request. Plain bodies are
/// received into the service's pool, up to its limit.
pub async fn serve(
    listener: Listener,
    router: Router,
    service: Arc<Service>,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let (pool, max_body_bytes) = (service.catalog().pool().clone(), service.catalog().limits().max_input.bytes);
    let settings = Settings { router, pool, max_body_bytes, stop };
    serve_with(listener, threads, settings).await;
}

/// As [`serve`], for routes that take no body: one of more than a few KiB is not received.
pub async fn serve_without_bodies(
    listener: Listener,
    router: Router,
    service: Arc<Service>,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let pool = service.catalog().pool().clone();
    let settings = Settings { router, pool, max_body_bytes: MAX_UNUSED_BODY_BYTES, stop };
    serve_with(listener, threads, settings).await;
}

async fn serve_with(listener: Listener, threads: IoThreads, settings: Settings) {
    let stop = settings.stop.clone();
    listener.serve(&threads, &stop, move |connection| serve_connection(connection, settings.clone())).await;
}

/// Serves plain requests here, and lets hyper serve the connection from the first unusual request on.
async fn serve_connection(connection: Connection, settings: Settings) -> anyhow::Result<()> {
    let (router, stop) = (settings.router.clone(), settings.stop.clone());
    let Some((connection, read)) = Plain::new(connection, settings).serve().await? else { return Ok(()) };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(MAX_BUFFER_BYTES);
    let io = TokioIo::new(Rewound { read, connection });
    let mut serving = std::pin::pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
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
struct Rewound {
    read: Bytes,
    connection: Connection,
}

impl AsyncRead for Rewound {
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

impl AsyncWrite for Rewound {
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
