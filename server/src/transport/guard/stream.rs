//! The stream of a connection, which reports to its guard what it receives and sends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::watch::Guard;

/// A stream with its guard.
pub struct Guarded<S> {
    stream: S,
    guard: Arc<Guard>,
    /// Whether the last flush had to wait: TLS holds bytes that its socket did not take.
    flush_blocked: bool,
}

impl<S> Guarded<S> {
    /// The stream, which reports to `guard`.
    pub fn new(stream: S, guard: Arc<Guard>) -> Self {
        Self { stream, guard, flush_blocked: false }
    }

    /// Its guard.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    fn sent(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.guard.sent(match &sent {
            Poll::Ready(Ok(bytes)) => Some(*bytes),
            Poll::Ready(Err(_)) => Some(0),
            Poll::Pending => None,
        });
        sent
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.guard.received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // Without TLS a flush never waits, and nothing is reported.
        if flushed.is_pending() != self.flush_blocked {
            self.flush_blocked = flushed.is_pending();
            self.guard.sent((!self.flush_blocked).then_some(0));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Sends the last bytes of a connection and reads what the client still sends, for at most a second: a socket that is
/// closed with unread bytes is reset, and the client might not see its answer.
pub async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let ending = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // The client may be gone, which is as well.
    let _ = tokio::time::timeout(Duration::from_secs(1), ending).await;
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::transport::guard::{Phase, Reason, Timeouts};

    /// Takes all that is written and never finishes a flush, as TLS whose client does not read.
    struct NeverFlushed;

    impl AsyncRead for NeverFlushed {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for NeverFlushed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_that_waits_for_the_client_has_a_time_limit() {
        let guard = Arc::new(Guard::new(Timeouts::default(), CancellationToken::new(), Arc::default()));
        let mut stream = Guarded::new(NeverFlushed, Arc::clone(&guard));
        guard.enter(Phase::Answer);
        let serving = async {
            stream.write_all(b"answer").await?;
            stream.flush().await
        };
        assert_eq!(guard.watch(serving).await.unwrap_err(), Reason::Answer);
    }
}
