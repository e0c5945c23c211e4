//! Serves HTTP/1.1 connections until the server stops, then lets the running requests finish.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::Router;
use bytes::{Buf as _, Bytes};
use http::{Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use quintet_proto::rest::ErrorBody;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::{
    checked::Checked,
    head,
    plain::{Plain, Settings},
    reporting, reserve,
};
use crate::{
    service::Service,
    transport::{
        access::Access,
        guard::{Guard, Guarded, Reason, Timeouts, linger},
        io_threads::IoThreads,
        listener::{Connection, Listener, Shared},
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
    let settings = Settings::new(router, listener.access().clone(), &service);
    serve_with(listener, settings, &service, &threads, &stop).await;
}

/// As [`serve`], for routes that take no body: one of more than a few KiB is not received.
pub async fn serve_without_bodies(
    listener: Listener,
    router: Router,
    service: Arc<Service>,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let settings = Settings::new(router, listener.access().clone(), &service);
    let settings = Settings { max_body_bytes: MAX_UNUSED_BODY_BYTES, ..settings };
    serve_with(listener, settings, &service, &threads, &stop).await;
}

async fn serve_with(
    listener: Listener,
    settings: Settings,
    service: &Service,
    threads: &IoThreads,
    stop: &CancellationToken,
) {
    let counters = service.catalog().connections();
    let shared = Shared { threads, stop, counters, refusal: reserve::REFUSAL };
    let serve = move |stream: Guarded<Connection>| {
        let guard = Arc::clone(stream.guard());
        serve_guarded(stream, guard, settings.clone())
    };
    listener.serve(shared, serve).await;
}

/// Serves one connection until it ends, or until `stop`, with the default time limits and for everybody.
///
/// # Errors
/// When the connection breaks, a time limit ends it, or the client does not speak HTTP/1.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    service: &Service,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let counters = Arc::clone(service.catalog().connections());
    let guard = Arc::new(Guard::new(Timeouts::default(), stop.child_token(), counters));
    let settings = Settings::new(router, Access::default(), service);
    serve_guarded(Guarded::new(stream, Arc::clone(&guard)), guard, settings).await
}

/// Serves a connection until it ends or a timer of its guard ends it. A request that is incomplete then gets 408.
async fn serve_guarded(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    guard: Arc<Guard>,
    settings: Settings,
) -> anyhow::Result<()> {
    let serving = serve_requests(&mut stream, &guard, settings);
    let ended = guard.watch(serving).await;
    if let Err(reason @ (Reason::Head | Reason::Body)) = ended {
        linger(stream, &timed_out(reason)).await;
    }
    ended?
}

/// Serves plain requests here, and lets hyper serve the connection from the first unusual request on.
async fn serve_requests(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    guard: &Arc<Guard>,
    settings: Settings,
) -> anyhow::Result<()> {
    let checked = Checked::new(settings.router.clone(), settings.access.clone());
    let Some((stream, read)) = Plain::new(stream, Arc::clone(guard), settings).serve().await? else { return Ok(()) };
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The guard has the timers.
    builder.header_read_timeout(None).max_buf_size(MAX_BUFFER_BYTES);
    let answer =
        hyper::service::service_fn(move |request| reporting::answer(request, checked.clone(), Arc::clone(guard)));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(Rewound { read, stream }), answer));
    tokio::select! {
        outcome = serving.as_mut() => outcome?,
        () = guard.leave().cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await?;
        }
    }
    Ok(())
}

/// The response to a request that did not come in time (RFC 9110 §15.5.9).
fn timed_out(reason: Reason) -> Vec<u8> {
    let body = serde_json::to_vec(&ErrorBody { error: reason.to_string() }).unwrap_or_default();
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::REQUEST_TIMEOUT;
    parts.headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    [&head::print(&parts, Some(body.len() as u64), false)[..], &body].concat()
}

/// A connection with bytes that were read from it before, which are read again first.
struct Rewound<S> {
    read: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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

#[cfg(test)]
mod tests;
