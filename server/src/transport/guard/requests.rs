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
