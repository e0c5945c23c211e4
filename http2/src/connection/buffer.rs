//! The buffer for received bytes that have not been parsed.

use std::ops::Range;

/// Bytes that one read may return where a frame may begin. Large DATA payloads are read past this buffer.
const BUFFER_BYTES: usize = 16 << 10;

/// A buffer of fixed size with a range of unread bytes.
pub(super) struct RecvBuffer {
    bytes: Box<[u8; BUFFER_BYTES]>,
    unread: Range<usize>,
}

impl RecvBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Box::new([0; BUFFER_BYTES]), unread: 0..0 }
    }

    /// The unread bytes.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// Marks the first `bytes` of the unread bytes as read, and returns them.
    pub(super) fn advance(&mut self, bytes: usize) -> &[u8] {
        let from = self.unread.start;
        self.unread.start = self.unread.end.min(from + bytes);
        &self.bytes[from..self.unread.start]
    }

    /// Reads the next `N` bytes, if all of them are there.
    pub(super) fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.unread().first_chunk()?;
        self.advance(N);
        Some(bytes)
    }

    /// Room for more bytes, after the unread ones.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == BUFFER_BYTES {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        &mut self.bytes[self.unread.end..]
    }

    /// Marks the first `bytes` of [`Self::room`] as received.
    pub(super) fn received(&mut self, bytes: usize) {
        self.unread.end = BUFFER_BYTES.min(self.unread.end + bytes);
    }
}
