//! The body of a request that is answered while it comes.

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

/// The reader's end.
pub struct Body(Arc<Shared>);

/// The client gave the request up, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client gave the request up")]
pub struct Cancelled;

/// The connection's end.
pub(super) struct Inlet(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    connection: Arc<Read>,
}

/// Tells a connection's task that a body was read: that is room for more.
#[derive(Default)]
pub(super) struct Read {
    happened: AtomicBool,
    task: AtomicWaker,
}

impl Read {
    /// The task to wake.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether any was since this was last asked.
    pub(super) fn take(&self) -> bool {
        self.happened.swap(false, AcqRel)
    }

    fn tell(&self) {
        self.happened.store(true, Release);
        self.task.wake();
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// Bytes that were read, or will not be, and that the client was not told of.
    used: usize,
    reader: Option<Waker>,
    end: End,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// More comes.
    #[default]
    Open,
    /// All of it came.
    Whole,
    /// The client gave the request up.
    Lost,
    /// Nobody reads it.
    Unread,
}

/// Both ends of a body; the connection is told by who reads it.
pub(super) fn new(connection: &Arc<Read>) -> (Inlet, Body) {
    let shared = Arc::new(Shared { state: Mutex::default(), connection: Arc::clone(connection) });
    (Inlet(Arc::clone(&shared)), Body(shared))
}

impl Inlet {
    /// The next bytes.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        if state.end == End::Unread {
            state.used += bytes.len();
            return;
        }
        state.waiting.push_back(Bytes::copy_from_slice(bytes));
        wake(&mut state);
    }

    /// All of it came.
    pub(super) fn end(&self) {
        self.close(End::Whole);
    }

    /// Bytes that were used since this was last asked.
    pub(super) fn used(&self) -> usize {
        std::mem::take(&mut self.0.state.lock().used)
    }

    /// The same, and what nobody will read.
    pub(super) fn abandon(&self) -> usize {
        self.close(End::Lost);
        let mut state = self.0.state.lock();
        let unread = state.waiting.drain(..).map(|bytes| bytes.len()).sum::<usize>();
        unread + std::mem::take(&mut state.used)
    }

    fn close(&self, end: End) {
        let mut state = self.0.state.lock();
        if state.end == End::Open {
            state.end = end;
        }
        wake(&mut state);
    }
}

fn wake(state: &mut State) {
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cancelled;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cancelled>>> {
        let mut state = self.0.state.lock();
        if let Some(bytes) = state.waiting.pop_front() {
            state.used += bytes.len();
            drop(state);
            self.0.connection.tell();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match state.end {
            End::Open => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Lost => Poll::Ready(Some(Err(Cancelled))),
            End::Whole | End::Unread => Poll::Ready(None),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.end = End::Unread;
        state.used += state.waiting.drain(..).map(|bytes| bytes.len()).sum::<usize>();
        drop(state);
        self.0.connection.tell();
    }
}
