//! Counts connections and bytes on the sockets.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::model::connection::Traffic;

/// Counts the traffic of all connections of one lane.
#[derive(Debug, Default)]
pub struct Wire {
    opened: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Wire {
    /// The counts so far.
    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            opened: read(&self.opened),
            most_open: read(&self.most_open),
            sent_bytes: read(&self.sent),
            received_bytes: read(&self.received),
        }
    }

    /// The counts so far; restarts the maximum of open connections.
    pub fn begin(&self) -> Traffic {
        self.most_open.store(self.open.load(Ordering::Relaxed), Ordering::Relaxed);
        self.traffic()
    }
}

/// A stream with counted bytes, which counts as open until it is dropped.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    wire: Arc<Wire>,
    _closed: DropGuard,
}

impl<S> Counted<S> {
    /// A new connection; `closed` is cancelled when it is closed.
    pub fn new(stream: S, wire: Arc<Wire>, closed: CancellationToken) -> Self {
        wire.opened.fetch_add(1, Ordering::Relaxed);
        let open = wire.open.fetch_add(1, Ordering::Relaxed) + 1;
        wire.most_open.fetch_max(open, Ordering::Relaxed);
        Self { stream, wire, _closed: closed.drop_guard() }
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.wire.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.wire.received.fetch_add(bytes as u64, Ordering::Relaxed);
        poll
    }
}

impl<S: AsyncWrite + Unpin> Counted<S> {
    fn count(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &poll {
            self.wire.sent.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that reports the first bytes from the peer. It is above TLS, so that the handshake does not count.
#[derive(Debug)]
pub struct NotifyRead<S> {
    stream: S,
    received: CancellationToken,
}

impl<S> NotifyRead<S> {
    /// Wraps a stream; `received` is cancelled when bytes arrive.
    pub fn new(stream: S, received: CancellationToken) -> Self {
        Self { stream, received }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NotifyRead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        // The end of the stream counts too, or the wait for bytes would never end.
        if poll.is_ready() && !self.received.is_cancelled() {
            self.received.cancel();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NotifyRead<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_and_connections_are_counted() {
        let wire = Arc::new(Wire::default());
        let received = CancellationToken::new();
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let near = Counted::new(near, Arc::clone(&wire), CancellationToken::new());
        let mut near = NotifyRead::new(near, received.clone());
        assert!(!received.is_cancelled());
        near.write_all(b"request").await.unwrap();
        far.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        near.read_exact(&mut answer).await.unwrap();
        assert!(received.is_cancelled());
        let first = Traffic { opened: 1, most_open: 1, sent_bytes: 7, received_bytes: 9 };
        assert_eq!(wire.traffic(), first);
        drop(near);
        let before = wire.begin();
        for _ in 0..3 {
            drop(Counted::new(tokio::io::empty(), Arc::clone(&wire), CancellationToken::new()));
        }
        let since = Traffic { opened: 3, most_open: 1, ..Traffic::default() };
        assert_eq!(wire.traffic().since(before), since);
        assert_eq!(first.plus(since).opened, 4);
    }
}
