//! The bodies that a connection receives side by side: whether one of them has stopped while others go on.

use std::{collections::HashMap, sync::Arc};

use super::watch::Guard;

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

/// One body, which its guard knows of from its first byte until this is dropped.
pub struct BodyProgress {
    guard: Arc<Guard>,
    number: u64,
}

impl BodyProgress {
    /// A body of which nothing has arrived.
    pub fn new(guard: &Arc<Guard>) -> Self {
        let bodies = &mut guard.activity.lock().bodies;
        bodies.next_number += 1;
        Self { guard: Arc::clone(guard), number: bodies.next_number }
    }

    /// Bytes of it arrived; whether the server waits for more.
    pub fn received(&self, bytes: usize, waits: bool) {
        let mut activity = self.guard.activity.lock();
        let body = activity.bodies.begun.entry(self.number).or_default();
        body.bytes += bytes as u64;
        body.waits = waits;
    }

    /// Whether the server waits for more of it.
    pub fn waits(&self, waits: bool) {
        if let Some(body) = self.guard.activity.lock().bodies.begun.get_mut(&self.number) {
            body.waits = waits;
        }
    }
}

impl Drop for BodyProgress {
    fn drop(&mut self) {
        self.guard.activity.lock().bodies.begun.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(bodies: &mut Bodies, number: u64, bytes: u64) {
        let body = bodies.begun.entry(number).or_default();
        (body.bytes, body.waits) = (body.bytes + bytes, true);
    }

    #[test]
    fn a_body_must_receive_its_part_between_two_looks() {
        let mut bodies = Bodies::default();
        assert!(!bodies.look(100));
        receive(&mut bodies, 1, 1);
        receive(&mut bodies, 2, 1);
        assert!(!bodies.look(100), "they have just begun");
        receive(&mut bodies, 1, 50);
        receive(&mut bodies, 2, 50);
        assert!(!bodies.look(100));
        receive(&mut bodies, 1, 1000);
        receive(&mut bodies, 2, 49);
        assert!(bodies.look(100));
        receive(&mut bodies, 1, 100);
        bodies.begun.remove(&2);
        assert!(!bodies.look(100), "the slow one is complete");
        bodies.begun.get_mut(&1).unwrap().waits = false;
        assert!(!bodies.look(100), "the server does not read on");
    }
}
