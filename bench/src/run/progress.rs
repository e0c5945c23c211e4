//! Progress events of a run; the command line shows them.

use std::time::{Duration, Instant};

use crate::{
    model::{cell::Cell, lane::Lane, load::Load},
    run::effort::Effort,
};

/// Receives the events of a run; ignores them by default.
pub trait Progress: Sync {
    /// A message for a person.
    fn say(&self, _text: &str) {}

    /// A lane begins to work under a load.
    fn begin(&self, _lane: Lane, _load: Load) {}

    /// A lane got on; `took` is the time for it.
    fn advance(&self, _lane: Lane, _done: Effort, _took: Duration) {}

    /// A cell is complete.
    fn cell(&self, _cell: &Cell) {}

    /// Nothing more comes.
    fn finish(&self) {}
}

/// Ignores all events.
pub struct Silent;

impl Progress for Silent {}

/// Times a piece of work for [`Progress::advance`].
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
