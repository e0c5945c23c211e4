//! Models made of models. They have no queue and no threads: a request is a future that asks the others.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::{
    backend::{Composite, RunTimings},
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, Stage},
    stats::{FailureReason, ModelStats},
};

/// A composite in service: the requests that it has open, and whether it takes more.
pub(crate) struct Steps {
    composite: Box<dyn Composite>,
    open: Mutex<Open>,
    idle: Condvar,
}

#[derive(Default)]
struct Open {
    requests: usize,
    closed: bool,
}

impl Steps {
    pub(crate) fn new(composite: Box<dyn Composite>) -> Self {
        Self { composite, open: Mutex::default(), idle: Condvar::new() }
    }

    /// As [`Composite::is_current`].
    pub(crate) fn is_current(&self) -> bool {
        self.composite.is_current()
    }

    /// How many requests are open.
    pub(crate) fn running(&self) -> usize {
        self.open.lock().requests
    }

    /// Answers a request and counts it as Triton does: its own queue holds nothing, its computing is that of its
    /// steps together, and a step that fails is a failure for another reason.
    pub(crate) async fn infer(&self, stats: &ModelStats, request: InferRequest) -> Result<InferResponse, InferError> {
        let (started, rows) = (request.started, request.rows);
        let mut leave = self.enter(stats, started)?;
        let outcome = self.composite.infer(request).await;
        leave.is_cancelled = false;
        match &outcome {
            Ok(response) => {
                let mut timings = response.timings;
                timings[Stage::Queue] = Duration::ZERO;
                let [copy_in, infer, copy_out] = [Stage::CopyIn, Stage::Infer, Stage::CopyOut].map(|it| timings[it]);
                stats.executed(rows, timings[Stage::Gather], &RunTimings { copy_in, infer, copy_out });
                stats.succeeded(started.elapsed(), &timings);
            }
            Err(_) => stats.failed(FailureReason::Other, started.elapsed()),
        }
        outcome
    }

    fn enter<'a>(&'a self, stats: &'a ModelStats, started: Instant) -> Result<Leave<'a>, InferError> {
        let mut open = self.open.lock();
        if open.closed {
            stats.failed(ErrorKind::Unavailable, started.elapsed());
            return Err(InferError::ShuttingDown);
        }
        open.requests += 1;
        Ok(Leave { steps: self, stats, started, is_cancelled: true })
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self) {
        self.open.lock().closed = true;
    }

    /// Blocks until no request is open.
    pub(crate) fn wait_idle(&self) {
        let mut open = self.open.lock();
        self.idle.wait_while(&mut open, |open| open.requests > 0);
    }
}

/// Closes a request, well or not; one that is dropped halfway was cancelled.
struct Leave<'a> {
    steps: &'a Steps,
    stats: &'a ModelStats,
    started: Instant,
    is_cancelled: bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.is_cancelled {
            self.stats.failed(ErrorKind::Cancelled, self.started.elapsed());
        }
        let mut open = self.steps.open.lock();
        open.requests -= 1;
        if open.requests == 0 {
            self.steps.idle.notify_all();
        }
    }
}
