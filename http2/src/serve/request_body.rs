//! The body of a request that is answered while it is received.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::{Mutex, MutexGuard};

use super::signal::StreamSignal;
use crate::frame::StreamId;

/// Largest buffer that is allocated for more bytes than have come.
const MAX_ROOM_BYTES: usize = 16 << 10;

/// The client has reset the stream, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client cancelled the request")]
pub struct RequestCancelled;

/// A request's body, as its reader sees it.
pub struct RequestBody(Arc<Shared>);

/// A request's body, as the connection sees it. Dropped before [`Self::finish`], it cancels the body.
pub(super) struct BodySender(Arc<Shared>);

struct Shared {
    stream: StreamId,
    state: Mutex<State>,
    /// Gets the stream when bytes were read or discarded.
    signal: Arc<StreamSignal>,
}

#[derive(Default)]
struct State {
    /// Bytes that were not read. Small pieces share a buffer, so that memory is linear in the bytes.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Bytes that were read or discarded and whose capacity was not released.
    consumed: usize,
    reader: Option<Waker>,
    end: End,
}

impl State {
    /// Appends bytes. A new buffer has room for as many as wait already.
    fn push(&mut self, mut bytes: &[u8]) {
        if let Some(last) = self.waiting.back_mut() {
            let (first, rest) = bytes.split_at(bytes.len().min(last.capacity() - last.len()));
            last.extend_from_slice(first);
            bytes = rest;
        }
        if !bytes.is_empty() {
            let room = self.waiting_bytes.min(MAX_ROOM_BYTES).max(bytes.len());
            let mut buffer = Vec::with_capacity(room);
            buffer.extend_from_slice(bytes);
            self.waiting.push_back(buffer);
        }
    }
}

impl Shared {
    /// Counts bytes as consumed.
    fn consume(&self, mut state: MutexGuard<'_, State>, bytes: usize) {
        let is_known = state.consumed > 0 || bytes == 0;
        state.consumed += bytes;
        drop(state);
        if !is_known {
            self.signal.add(self.stream);
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// All of the body came.
    Complete,
    /// The rest of the body will not come.
    Cancelled,
    /// The reader was dropped.
    Unread,
}

/// Both sides of a new body. `signal` gets `stream` whenever bytes are consumed.
pub(super) fn channel(stream: StreamId, signal: &Arc<StreamSignal>) -> (BodySender, RequestBody) {
    let shared = Arc::new(Shared { stream, state: Mutex::default(), signal: Arc::clone(signal) });
    (BodySender(Arc::clone(&shared)), RequestBody(shared))
}

impl BodySender {
    /// Appends bytes; false if nobody will read them.
    pub(super) fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.0.state.lock();
        if state.end == End::Unread {
            return false;
        }
        state.push(bytes);
        state.waiting_bytes += bytes.len();
        wake(&mut state);
        true
    }

    /// The body is complete.
    pub(super) fn finish(&self) {
        self.close(End::Complete);
    }

    /// Bytes that were consumed since the last call.
    pub(super) fn take_consumed(&self) -> usize {
        std::mem::take(&mut self.0.state.lock().consumed)
    }

    fn close(&self, end: End) {
        let mut state = self.0.state.lock();
        if state.end == End::Open {
            state.end = end;
        }
        wake(&mut state);
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.close(End::Cancelled);
        let mut state = self.0.state.lock();
        state.waiting.clear();
        state.waiting_bytes = 0;
    }
}

fn wake(state: &mut State) {
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = RequestCancelled;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestCancelled>>> {
        let mut state = self.0.state.lock();
        if let Some(bytes) = state.waiting.pop_front() {
            let length = bytes.len();
            state.waiting_bytes -= length;
            self.0.consume(state, length);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))));
        }
        match state.end {
            End::Open => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Cancelled => Poll::Ready(Some(Err(RequestCancelled))),
            End::Complete | End::Unread => Poll::Ready(None),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.end = End::Unread;
        state.waiting.clear();
        let discarded = std::mem::take(&mut state.waiting_bytes);
        self.0.consume(state, discarded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_share_buffers() {
        let (sender, _body) = channel(1, &Arc::default());
        for _ in 0..1_000_000 {
            assert!(sender.push(b"x"));
        }
        let state = sender.0.state.lock();
        let held: usize = state.waiting.iter().map(|buffer| buffer.capacity() + size_of::<Vec<u8>>()).sum();
        assert_eq!(state.waiting_bytes, 1_000_000);
        assert!(held < 1_030_000, "{held}");
    }

    #[test]
    fn a_single_piece_needs_no_more_than_its_length() {
        let (sender, _body) = channel(1, &Arc::default());
        sender.push(&[0; 100]);
        assert_eq!(sender.0.state.lock().waiting[0].capacity(), 100);
    }
}
