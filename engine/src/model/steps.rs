//! Models that call other models. They have no queue and no threads: a request is a future that calls the others.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    backend::{Composite, RunTimings, guarded_as},
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, Stage},
    stats::{FailureReason, ModelStats},
};

/// A composite in service: its open requests, and whether it accepts more.
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

    /// As [`Composite::generations`].
    pub(crate) fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        self.composite.generations(found)
    }

    /// Number of open requests.
    pub(crate) fn running(&self) -> usize {
        self.open.lock().requests
    }

    /// Answers a request and counts it: its time in the queue is 0, its compute times are the totals of its steps, and
    /// the reason of a failed step is [`FailureReason::Other`].
    pub(crate) async fn infer(&self, stats: &ModelStats, request: InferRequest) -> Result<InferResponse, InferError> {
        let (started, rows) = (request.started, request.rows);
        let mut open = self.open(stats, started)?;
        let outcome = answer(&*self.composite, request).await;
        open.is_cancelled = false;
        match &outcome {
            Ok(response) => {
                let mut timings = response.timings;
                timings[Stage::Queue] = Duration::ZERO;
                let [copy_in, infer, copy_out] =
                    [Stage::CopyIn, Stage::Infer, Stage::CopyOut].map(|stage| timings[stage]);
                stats.executed(rows, timings[Stage::Gather], &RunTimings { copy_in, infer, copy_out });
                stats.succeeded(started.elapsed(), &timings);
            }
            Err(_) => stats.failed(FailureReason::Other, started.elapsed()),
        }
        outcome
    }

    fn open<'a>(&'a self, stats: &'a ModelStats, started: Instant) -> Result<OpenRequest<'a>, InferError> {
        let mut open = self.open.lock();
        if open.closed {
            stats.failed(ErrorKind::Unavailable, started.elapsed());
            return Err(InferError::ShuttingDown);
        }
        open.requests += 1;
        Ok(OpenRequest { steps: self, stats, started, is_cancelled: true })
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

/// Calls a composite. A panic in it is an error of its request: the task may serve others, too.
async fn answer(composite: &dyn Composite, request: InferRequest) -> Result<InferResponse, InferError> {
    let mut answer = None;
    let mut request = Some(request);
    poll_fn(|context| {
        let poll = || {
            if let Some(request) = request.take() {
                answer = Some(composite.infer(request));
            }
            Ok(answer.as_mut().map_or(Poll::Pending, |answer| answer.as_mut().poll(context)))
        };
        guarded_as(InferError::Panicked, poll).unwrap_or_else(|error| Poll::Ready(Err(error)))
    })
    .await
}

/// An open request: dropping it closes it, and counts it as cancelled unless it has an outcome.
struct OpenRequest<'a> {
    steps: &'a Steps,
    stats: &'a ModelStats,
    started: Instant,
    is_cancelled: bool,
}

impl Drop for OpenRequest<'_> {
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
