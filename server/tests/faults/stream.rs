//! A connection that is slow, moves few bytes at a time, and breaks.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// A connection whose reads and writes are pending for no reason, late, short, or fail.
pub struct Faulty<S> {
    inner: S,
    rng: StdRng,
    /// One of this many reads and writes breaks the connection; `None` for a slow one that works.
    breaks: Option<u32>,
    is_broken: bool,
    writes_vectored: bool,
    late: Option<Pin<Box<Sleep>>>,
}

impl<S> Faulty<S> {
    pub fn new(inner: S, seed: u64, breaks: Option<u32>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self { inner, breaks, is_broken: false, writes_vectored: rng.random(), late: None, rng }
    }

    /// How many bytes the next read or write may move.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(late) = &mut self.late {
            ready!(late.as_mut().poll(cx));
            self.late = None;
        }
        if self.is_broken || self.breaks.is_some_and(|calls| self.rng.random_ratio(1, calls)) {
            self.is_broken = true;
            let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::TimedOut];
            return Poll::Ready(Err((*kinds.choose(&mut self.rng).unwrap()).into()));
        }
        match self.rng.random_range(0..400) {
            0..40 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            40 => {
                let mut late = Box::pin(tokio::time::sleep(Duration::from_micros(self.rng.random_range(0..2000))));
                // The timer has the waker now.
                let polled = late.as_mut().poll(cx);
                self.late = polled.is_pending().then_some(late);
                if polled.is_ready() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            _ => Poll::Ready(Ok(*[1, 3, 9, 100, 1000, 4096].choose(&mut self.rng).unwrap())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = ready!(self.turn(cx))?.min(buffer.remaining());
        let mut bytes = [0; 4096];
        let mut part = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.turn(cx))?.min(bytes.len());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..most])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.turn(cx))?;
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).take(most).collect::<Vec<_>>();
        Pin::new(&mut self.inner).poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.writes_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.turn(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.turn(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
