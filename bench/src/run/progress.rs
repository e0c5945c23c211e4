//! Progress events of a run; the command line shows them.

use std::time::{Duration, Instant};

use crate::{
    model::{cell::Cell, lane::Lane, load::Load},
    run::effort::Effort,
};

/// Receives the events of a run; by default it ignores them.
pub trait Progress: Sync {
    /// Shows a message.
    fn say(&self, _text: &str) {}

    /// A lane begins a load.
    fn begin(&self, _lane: Lane, _load: Load) {}

    /// A lane has done some work in the time `took`.
    fn advance(&self, _lane: Lane, _done: Effort, _took: Duration) {}

    /// A cell is complete.
    fn cell(&self, _cell: &Cell) {}

    /// The run is over.
    fn finish(&self) {}
}

/// Ignores all events.
pub struct Silent;

impl Progress for Silent {}

/// Times work for [`Progress::advance`].
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start or the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
