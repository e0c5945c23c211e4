//! Answers in the order of their requests, where several instances may finish them in another.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::scheduler::Outcome;

/// The accepted requests that have no answer yet, or whose answer waits for those before it.
#[derive(Debug, Default)]
pub(super) struct ResponseOrder {
    open: BTreeMap<u64, Option<(oneshot::Sender<Outcome>, Outcome)>>,
}

impl ResponseOrder {
    /// A request was accepted.
    pub(super) fn accept(&mut self, number: u64) {
        self.open.insert(number, None);
    }

    /// A request has its outcome, which goes out when all requests before it have theirs.
    pub(super) fn finish(&mut self, number: u64, reply: oneshot::Sender<Outcome>, outcome: Outcome) {
        if let Some(slot) = self.open.get_mut(&number) {
            *slot = Some((reply, outcome));
        }
        self.release();
    }

    /// A request will not be run: nothing waits for it.
    pub(super) fn leave(&mut self, number: u64) {
        self.open.remove(&number);
        self.release();
    }

    fn release(&mut self) {
        while let Some(first) = self.open.first_entry()
            && first.get().is_some()
        {
            if let Some((reply, outcome)) = first.remove() {
                // A client that has gone away no longer listens.
                let _ = reply.send(outcome);
            }
        }
    }
}
