//! Tells a connection's task for which of its streams something has happened in another task.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::frame::StreamId;

/// Streams for which something has happened.
#[derive(Default)]
pub(super) struct StreamSignal {
    streams: Mutex<Vec<StreamId>>,
    /// Whether there are any.
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl StreamSignal {
    /// Sets the task to wake.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Adds a stream, and wakes the task.
    pub(super) fn add(&self, stream: StreamId) {
        self.streams.lock().push(stream);
        self.is_set.store(true, Release);
        self.task.wake();
    }

    /// Moves all streams to `streams`, which is empty.
    pub(super) fn take(&self, streams: &mut Vec<StreamId>) {
        if self.is_set.swap(false, AcqRel) {
            std::mem::swap(&mut *self.streams.lock(), streams);
        }
    }
}

/// A waker that adds one stream to a signal.
pub(super) struct StreamWaker {
    stream: StreamId,
    is_added: AtomicBool,
    signal: Arc<StreamSignal>,
}

impl StreamWaker {
    pub(super) fn new(stream: StreamId, signal: Arc<StreamSignal>) -> Arc<Self> {
        Arc::new(Self { stream, is_added: AtomicBool::new(false), signal })
    }

    /// Lets it add its stream again.
    pub(super) fn reset(&self) {
        self.is_added.store(false, Release);
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_added.swap(true, AcqRel) {
            self.signal.add(self.stream);
        }
    }
}
