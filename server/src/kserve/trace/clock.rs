//! Instants as times of day.

use std::time::{Instant, SystemTime};

/// What time of day it is at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    /// Nanoseconds of the UNIX epoch then.
    epoch_ns: u64,
}

impl Clock {
    /// By the system's clock as it is now.
    pub(super) fn now() -> Self {
        let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { instant: Instant::now(), epoch_ns: epoch.as_nanos() as u64 }
    }

    /// Nanoseconds of the UNIX epoch.
    pub(super) fn ns(self, at: Instant) -> u64 {
        let (before, after) = (self.instant.saturating_duration_since(at), at.saturating_duration_since(self.instant));
        self.epoch_ns.saturating_sub(before.as_nanos() as u64) + after.as_nanos() as u64
    }
}
