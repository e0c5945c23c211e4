//! What waits for the socket.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    frame::{self as http2, DEFAULT_MAX_FRAME_BYTES, FrameHeader, flag, kind},
    hpack::Encoder,
};
use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// Parts that one system call takes.
const MAX_SLICES: usize = 64;

/// Frames in parts, in their order.
pub(super) struct Output {
    parts: VecDeque<Bytes>,
    bytes: usize,
    control_bytes: usize,
    encoder: Encoder,
    /// Largest frame that the client takes.
    pub(super) max_frame_bytes: u32,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            parts: VecDeque::new(),
            bytes: 0,
            control_bytes: 0,
            encoder: Encoder::default(),
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
        }
    }

    /// The client's table of fields is this large.
    pub(super) fn set_max_table_bytes(&mut self, bytes: usize) {
        self.encoder.set_max_table_bytes(bytes);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of those, frames that are no part of an answer, as far as the queue was never empty since.
    pub(super) fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// A frame that is no part of an answer.
    pub(super) fn control(&mut self, frame: Vec<u8>) {
        self.control_bytes += frame.len();
        self.push(frame.into());
    }

    /// A block of fields in as many frames as it takes.
    pub(super) fn fields<'a>(
        &mut self,
        stream: u32,
        is_last: bool,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        // Room for the first frame's header, which is known when the block is.
        let mut block = vec![0; http2::HEADER_BYTES];
        self.encoder.encode(fields, &mut block);
        let length = block.len() - http2::HEADER_BYTES;
        let end = if is_last { flag::END_STREAM } else { 0 };
        let max = self.max_frame_bytes as usize;
        if length <= max {
            let flags = flag::END_HEADERS | end;
            let header = FrameHeader { length: length as u32, kind: kind::HEADERS, flags, stream };
            block[..http2::HEADER_BYTES].copy_from_slice(&header.bytes());
            return self.push(block.into());
        }
        let mut pieces = block[http2::HEADER_BYTES..].chunks(max).peekable();
        let mut next = (kind::HEADERS, end);
        while let Some(piece) = pieces.next() {
            let flags = next.1 | if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            let frame = http2::frame(next.0, flags, stream, piece);
            self.push(frame.into());
            next = (kind::CONTINUATION, 0);
        }
    }

    /// The first `length` bytes of `waiting` as one frame.
    pub(super) fn data(&mut self, stream: u32, length: usize, is_last: bool, waiting: &mut VecDeque<Bytes>) {
        let flags = if is_last { flag::END_STREAM } else { 0 };
        let header = FrameHeader { length: length as u32, kind: kind::DATA, flags, stream };
        self.push(Bytes::copy_from_slice(&header.bytes()));
        let mut left = length;
        while left > 0 {
            let Some(part) = waiting.front_mut() else { return };
            if part.len() > left {
                let piece = part.split_to(left);
                return self.push(piece);
            }
            left -= part.len();
            if let Some(part) = waiting.pop_front() {
                self.push(part);
            }
        }
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Writes as much as the socket takes, many parts in one call. Ready when nothing waits.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            let used = self.parts.len().min(MAX_SLICES);
            let mut sent = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..used]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes -= sent;
            while let Some(part) = self.parts.front_mut() {
                if sent < part.len() {
                    part.advance(sent);
                    break;
                }
                sent -= part.len();
                self.parts.pop_front();
            }
        }
        self.control_bytes = 0;
        Poll::Ready(Ok(()))
    }
}
