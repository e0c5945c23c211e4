//! What was read and not used yet.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// What one read may take where a frame may begin. Only tensors are larger, and those are read past this.
const READ_BYTES: usize = 16 << 10;

/// A buffer, a part of which is unread.
pub(super) struct Buffer {
    bytes: Box<[u8; READ_BYTES]>,
    unread: Range<usize>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self { bytes: Box::new([0; READ_BYTES]), unread: 0..0 }
    }

    /// What is there.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// So many bytes of it were used.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.unread.start += bytes;
    }

    /// The next `N` bytes, once they are there.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.unread().first_chunk()?;
        self.advance(N);
        Some(bytes)
    }

    /// Reads more behind what is there; how much, or nothing at the end.
    pub(super) fn poll_read(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == READ_BYTES {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let got = ready!(poll_read(&mut self.bytes[self.unread.end..], socket, cx))?;
        self.unread.end += got;
        Poll::Ready(Ok(got))
    }
}

/// Reads to `place`; how much, or nothing at the end.
pub(super) fn poll_read(
    place: &mut [u8],
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut place = ReadBuf::new(place);
    ready!(Pin::new(socket).poll_read(cx, &mut place))?;
    Poll::Ready(Ok(place.filled().len()))
}
