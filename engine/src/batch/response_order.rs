//! Keeps responses in the order of their requests where instances finish them in another.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::scheduler::Outcome;

/// The accepted requests without a response, or with one that waits for those of earlier requests.
#[derive(Debug, Default)]
pub(super) struct ResponseOrder {
    open: BTreeMap<u64, Option<(oneshot::Sender<Outcome>, Outcome)>>,
}

impl ResponseOrder {
    /// A request was accepted.
    pub(super) fn accept(&mut self, number: u64) {
        self.open.insert(number, None);
    }

    /// A request has its outcome, which is sent when all earlier requests have theirs.
    pub(super) fn finish(&mut self, number: u64, reply: oneshot::Sender<Outcome>, outcome: Outcome) {
        if let Some(slot) = self.open.get_mut(&number) {
            *slot = Some((reply, outcome));
        }
        self.release();
    }

    /// A request is cancelled or rejected: later responses do not wait for it.
    pub(super) fn leave(&mut self, number: u64) {
        self.open.remove(&number);
        self.release();
    }

    fn release(&mut self) {
        while let Some(first) = self.open.first_entry()
            && first.get().is_some()
        {
            if let Some((reply, outcome)) = first.remove() {
                // The receiver is gone if the client is.
                let _ = reply.send(outcome);
            }
        }
    }
}
