//! The body of a request that is answered while it is received.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::Frame;
use parking_lot::Mutex;

/// The client has reset the stream, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client cancelled the request")]
pub struct RequestCancelled;

/// A request's body, as its reader sees it.
pub struct RequestBody(Arc<Shared>);

/// A request's body, as the connection sees it. Dropped before [`Self::finish`], it cancels the body.
pub(super) struct BodySender(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    signal: Arc<ReadSignal>,
}

/// Wakes a connection when any of its bodies was read.
#[derive(Default)]
pub(super) struct ReadSignal {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl ReadSignal {
    /// Sets the task to wake.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether any body was read since the last call.
    pub(super) fn take(&self) -> bool {
        self.is_set.swap(false, AcqRel)
    }

    fn set(&self) {
        self.is_set.store(true, Release);
        self.task.wake();
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// Bytes that were read or discarded and whose capacity was not released.
    consumed: usize,
    reader: Option<Waker>,
    end: End,
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

/// Both sides of a new body.
pub(super) fn channel(signal: &Arc<ReadSignal>) -> (BodySender, RequestBody) {
    let shared = Arc::new(Shared { state: Mutex::default(), signal: Arc::clone(signal) });
    (BodySender(Arc::clone(&shared)), RequestBody(shared))
}

impl BodySender {
    /// Appends bytes.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        if state.end == End::Unread {
            state.consumed += bytes.len();
            return;
        }
        state.waiting.push_back(Bytes::copy_from_slice(bytes));
        wake(&mut state);
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
        self.0.state.lock().waiting.clear();
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
            state.consumed += bytes.len();
            drop(state);
            self.0.signal.set();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
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
        state.consumed += state.waiting.drain(..).map(|bytes| bytes.len()).sum::<usize>();
        drop(state);
        self.0.signal.set();
    }
}
