//! A response over HTTP/2, whose buffers are reused.

use bytes::Bytes;

/// A response; its body stays until the next exchange.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) received: usize,
    /// An incomplete header block, and whether it ends the stream.
    pub(super) block: Vec<u8>,
    pub(super) last: bool,
    /// Headers and trailers.
    pub(super) fields: Vec<(Bytes, Bytes)>,
    pub(super) ended: bool,
}

impl Answer {
    /// The data.
    pub(super) fn body(&self) -> &[u8] {
        &self.body[..self.received]
    }

    /// The last header or trailer of this name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().rev().find(|(field, _)| field == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}
