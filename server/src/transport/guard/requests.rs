//! The open requests of a connection that may have several at once.

use std::sync::Arc;

use super::{Activity, Guard, Phase};

/// What an open request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// For the client: it has begun a message.
    Receiving,
    /// For the server.
    Answering,
    /// For the client: it has not taken the answer.
    Sending,
    /// For nothing: a stream between two messages.
    Quiet,
}

impl RequestState {
    pub(super) const COUNT: usize = 4;
}

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
            activity.requests[self.state as usize] -= 1;
            activity.add(state);
            self.state = state;
        }
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        let mut activity = self.guard.activity.lock();
        activity.requests[self.state as usize] -= 1;
        activity.follow_requests();
    }
}

impl Activity {
    fn add(&mut self, state: RequestState) {
        self.requests[state as usize] += 1;
        self.follow_requests();
    }

    /// Begins the phase that follows from the open requests.
    fn follow_requests(&mut self) {
        let [receiving, answering, sending, quiet] = self.requests;
        let phase = match (receiving, answering + sending, quiet) {
            (0, 0, 0) => Phase::Idle,
            (0, 0, _) => Phase::Quiet,
            (0, ..) => Phase::Answer,
            _ => Phase::Body,
        };
        if phase != self.phase || phase == Phase::Idle {
            self.enter(phase);
        }
    }
}
