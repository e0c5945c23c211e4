//! Converts instants to UNIX time.

use std::time::{Instant, SystemTime};

/// An instant and its UNIX time, from which the UNIX time of other instants follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    /// UNIX time at `instant`, in nanoseconds.
    epoch_ns: u64,
}

impl Clock {
    /// Reads the system's clock.
    pub(super) fn now() -> Self {
        let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { instant: Instant::now(), epoch_ns: epoch.as_nanos() as u64 }
    }

    /// UNIX time at an instant, in nanoseconds.
    pub(super) fn ns(self, at: Instant) -> u64 {
        let (before, after) = (self.instant.saturating_duration_since(at), at.saturating_duration_since(self.instant));
        self.epoch_ns.saturating_sub(before.as_nanos() as u64) + after.as_nanos() as u64
    }
}
