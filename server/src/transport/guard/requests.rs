//! The open requests of a connection that may have several at once.

use std::sync::Arc;

use super::{activity::RequestState, watch::Guard};

/// An open request, which its guard knows of until it is dropped.
pub struct Requested {
    guard: Arc<Guard>,
    state: RequestState,
}

impl Requested {
    /// A new request.
    pub fn new(guard: &Arc<Guard>, state: RequestState) -> Self {
        guard.activity.lock().add(state);
        Self { guard: Arc::clone(guard), state }
    }

    /// Another one of the same connection.
    #[must_use]
    pub fn again(&self, state: RequestState) -> Self {
        Self::new(&self.guard, state)
    }

    /// The request waits for something else now.
    pub fn set(&mut self, state: RequestState) {
        if state != self.state {
            let mut activity = self.guard.activity.lock();
            activity.remove(self.state);
            activity.add(state);
            self.state = state;
        }
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        self.guard.activity.lock().remove(self.state);
    }
}

/// The body of a request that is received beside others. Its guard knows of it from its first byte until this is dropped.
pub struct BodyProgress {
    guard: Arc<Guard>,
    number: u64,
}

impl BodyProgress {
    /// A body of which nothing has arrived.
    pub fn new(guard: &Arc<Guard>) -> Self {
        let number = guard.activity.lock().bodies.number();
        Self { guard: Arc::clone(guard), number }
    }

    /// Bytes of it arrived; whether the server waits for more.
    pub fn received(&self, bytes: usize, waits: bool) {
        self.guard.activity.lock().bodies.received(self.number, bytes, waits);
    }

    /// Whether the server waits for more of it.
    pub fn waits(&self, waits: bool) {
        self.guard.activity.lock().bodies.waits(self.number, waits);
    }
}

impl Drop for BodyProgress {
    fn drop(&mut self) {
        self.guard.activity.lock().bodies.remove(self.number);
    }
}
