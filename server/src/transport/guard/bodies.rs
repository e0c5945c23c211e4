//! The bodies that a connection receives side by side: whether one of them has stopped while others go on.

use std::collections::HashMap;

/// The bodies that have begun, by number. One of which nothing has arrived holds no memory, and a client that sends its
/// bodies one after the other has many of them.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    begun: HashMap<u64, Begun>,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Begun {
    /// Bytes received since the last look.
    bytes: u64,
    /// Whether the server waits for more of it.
    waits: bool,
    /// Whether it had begun at the last look.
    was_seen: bool,
}

impl Bodies {
    /// The number of a new body.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Bytes of a body arrived; whether the server waits for more.
    pub(super) fn received(&mut self, number: u64, bytes: usize, waits: bool) {
        let body = self.begun.entry(number).or_default();
        body.bytes += bytes as u64;
        body.waits = waits;
    }

    /// Whether the server waits for more of a body.
    pub(super) fn waits(&mut self, number: u64, waits: bool) {
        if let Some(body) = self.begun.get_mut(&number) {
            body.waits = waits;
        }
    }

    /// A body is complete or given up.
    pub(super) fn remove(&mut self, number: u64) {
        self.begun.remove(&number);
    }

    /// Number of bodies that have begun.
    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Whether a body that had begun before the last look has received less since then than its equal part of `enough`
    /// bytes, although the server waits for it.
    pub(super) fn look(&mut self, enough: u64) -> bool {
        let part = enough.div_ceil(self.begun.len().max(1) as u64);
        let has_stopped = self.begun.values().any(|body| body.was_seen && body.waits && body.bytes < part);
        for body in self.begun.values_mut() {
            (body.bytes, body.was_seen) = (0, true);
        }
        has_stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_receive_its_part_between_two_looks() {
        let mut bodies = Bodies::default();
        assert!(!bodies.look(100));
        bodies.received(1, 1, true);
        bodies.received(2, 1, true);
        assert!(!bodies.look(100), "they have just begun");
        bodies.received(1, 50, true);
        bodies.received(2, 50, true);
        assert!(!bodies.look(100));
        bodies.received(1, 1000, true);
        bodies.received(2, 49, true);
        assert!(bodies.look(100));
        bodies.received(1, 100, true);
        bodies.remove(2);
        assert!(!bodies.look(100), "the slow one is complete");
        bodies.waits(1, false);
        assert!(!bodies.look(100), "the server does not read on");
    }
}
