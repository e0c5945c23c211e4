//! What a connection does, as its stream and its protocol report it.

use tokio::time::Instant;

use super::{bodies::Bodies, timers::Phase};

/// What a connection does.
pub(super) struct Activity {
    pub(super) phase: Phase,
    /// When the phase began, as far as it was looked at.
    pub(super) since: Instant,
    /// Whether the phase began after the last look.
    pub(super) is_new: bool,
    /// Whether several requests may be open at once: then bytes between requests are not the head of one.
    pub(super) multiplexed: bool,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) waits_for_body: bool,
    pub(super) write_blocked: bool,
    /// Open requests in each [`RequestState`].
    pub(super) requests: [usize; RequestState::COUNT],
    /// Bodies that are received side by side.
    pub(super) bodies: Bodies,
}

impl Activity {
    /// Begins a phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        (self.phase, self.is_new) = (phase, true);
        self.waits_for_body = phase == Phase::Body;
    }

    /// Whether a part of an answer waits for the client to take it.
    pub(super) fn waits_for_taking(&self) -> bool {
        self.write_blocked || self.requests[RequestState::Sending as usize] > 0
    }

    /// A request begins to wait.
    pub(super) fn add(&mut self, state: RequestState) {
        self.requests[state as usize] += 1;
        self.follow_requests();
    }

    /// A request no longer waits.
    pub(super) fn remove(&mut self, state: RequestState) {
        self.requests[state as usize] -= 1;
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
