//! The clock of a run, and the token that stops it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The start that all times of a run count from, and the token that stops the run.
#[derive(Clone)]
pub struct RunClock {
    /// Start of the run.
    pub epoch: Instant,
    /// Cancelled when the run is interrupted.
    pub cancel: CancellationToken,
}

impl RunClock {
    /// A clock that starts now.
    pub fn start(cancel: CancellationToken) -> Self {
        Self { epoch: Instant::now(), cancel }
    }

    /// Time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }
}
