//! Frames that wait for the socket, in the order in which they are sent.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{
    frame::{self, DEFAULT_MAX_FRAME_BYTES, FrameHeader, StreamId, flag, kind},
    hpack::Encoder,
};

/// Bytes allocated at once for headers of DATA frames.
const HEADERS_BYTES: usize = 128 * frame::HEADER_BYTES;

/// Data of a response that waits to be put into frames.
#[derive(Default)]
pub struct SendBuffer {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl SendBuffer {
    /// Appends `part`. It is sent without being copied.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// The result of [`Connection::send_data`](super::Connection::send_data).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSent {
    /// A frame was queued; the stream is still open.
    Frame,
    /// A frame with END_STREAM was queued; the stream is closed.
    Last,
    /// Nothing was queued: the stream's window is exhausted. [`Connection::poll_unblocked`] returns the stream when it
    /// is not any more.
    ///
    /// [`Connection::poll_unblocked`]: super::Connection::poll_unblocked
    StreamBlocked,
    /// Nothing was queued: the connection's window is exhausted or the queue is full.
    Blocked,
    /// The stream is closed.
    Closed,
}

/// A queued frame, or a part of one.
struct Part {
    bytes: Bytes,
    /// Whether it belongs to a DATA frame, which the client's windows bound.
    is_data: bool,
}

/// Queued frames, as parts.
pub(super) struct SendQueue {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Bytes of parts that belong to no DATA frame.
    control_bytes: usize,
    encoder: Encoder,
    /// Where the headers of DATA frames are written.
    headers: BytesMut,
    /// The client's SETTINGS_MAX_FRAME_SIZE.
    pub(super) max_frame_bytes: u32,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        Self {
            parts: VecDeque::new(),
            bytes: 0,
            control_bytes: 0,
            encoder: Encoder::default(),
            headers: BytesMut::new(),
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
        }
    }

    /// Applies the client's SETTINGS_HEADER_TABLE_SIZE.
    pub(super) fn set_max_table_bytes(&mut self, bytes: usize) {
        self.encoder.set_max_table_bytes(bytes);
    }

    /// Queued bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queued bytes of frames other than DATA.
    pub(super) fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Queues a frame that is no part of a response.
    pub(super) fn control(&mut self, frame: Vec<u8>) {
        self.push(frame.into(), false);
    }

    /// Queues a field section as HEADERS, with CONTINUATIONs if it exceeds one frame.
    pub(super) fn fields<'a>(
        &mut self,
        stream: StreamId,
        is_last: bool,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        // Room for the first frame's header, which is known after the block.
        let mut block = vec![0; frame::HEADER_BYTES];
        self.encoder.encode(fields, &mut block);
        let length = block.len() - frame::HEADER_BYTES;
        let end = if is_last { flag::END_STREAM } else { 0 };
        // RFC 9113 §4.2: a payload MUST NOT exceed the client's SETTINGS_MAX_FRAME_SIZE.
        let max = self.max_frame_bytes as usize;
        if length <= max {
            let flags = flag::END_HEADERS | end;
            let header = FrameHeader { length: length as u32, kind: kind::HEADERS, flags, stream };
            block[..frame::HEADER_BYTES].copy_from_slice(&header.bytes());
            return self.push(block.into(), false);
        }
        // RFC 9113 §4.3 and §6.10: the frames of a field block MUST be contiguous; the last one has END_HEADERS.
        let mut fragments = block[frame::HEADER_BYTES..].chunks(max).peekable();
        let mut next = (kind::HEADERS, end);
        while let Some(fragment) = fragments.next() {
            let flags = next.1 | if fragments.peek().is_none() { flag::END_HEADERS } else { 0 };
            self.push(frame::frame(next.0, flags, stream, fragment).into(), false);
            next = (kind::CONTINUATION, 0);
        }
    }

    /// Queues the first `length` bytes of `data` as one DATA frame. The caller has checked the windows.
    pub(super) fn data(&mut self, stream: StreamId, length: usize, is_last: bool, data: &mut SendBuffer) {
        let flags = if is_last { flag::END_STREAM } else { 0 };
        let header = FrameHeader { length: length as u32, kind: kind::DATA, flags, stream };
        if self.headers.capacity() < frame::HEADER_BYTES {
            self.headers.reserve(HEADERS_BYTES);
        }
        self.headers.extend_from_slice(&header.bytes());
        let header = self.headers.split().freeze();
        self.push(header, true);
        data.bytes -= length;
        let mut left = length;
        while left > 0 {
            let Some(part) = data.parts.front_mut() else { return };
            if part.len() > left {
                let piece = part.split_to(left);
                return self.push(piece, true);
            }
            left -= part.len();
            if let Some(part) = data.parts.pop_front() {
                self.push(part, true);
            }
        }
    }

    fn push(&mut self, bytes: Bytes, is_data: bool) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            if !is_data {
                self.control_bytes += bytes.len();
            }
            self.parts.push_back(Part { bytes, is_data });
        }
    }

    /// Fills `slices` with what is sent next; returns how many it filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(&part.bytes);
        }
        self.parts.len().min(slices.len())
    }

    /// Removes the first `bytes`, which were sent.
    pub(super) fn sent(&mut self, mut bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        while let Some(part) = self.parts.front_mut() {
            let sent = bytes.min(part.bytes.len());
            if !part.is_data {
                self.control_bytes -= sent;
            }
            if sent < part.bytes.len() {
                part.bytes.advance(sent);
                return;
            }
            bytes -= sent;
            self.parts.pop_front();
        }
    }
}
