//! The bounded queue of a model's instances: a [`Scheduler`] with a clock, locks and channels.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    response_order::ResponseOrder,
    scheduler::{Batch, Next, Outcome, Pending, Scheduler},
};
use crate::{cancel::Cancel, error::InferError, request::InferRequest, spec::BatchPolicy};

/// The queue, shared by the server's tasks and the instances' threads.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    /// Set if responses keep the order of their requests.
    order: Option<ResponseOrder>,
    next_number: u64,
    open: bool,
}

/// What [`Queue::push`] returns for an accepted request.
#[derive(Debug)]
pub struct Ticket {
    /// Names the request.
    pub number: u64,
    /// When the request is rejected if it still waits.
    pub rejected_at: Option<Instant>,
    /// Receives the outcome.
    pub outcome: oneshot::Receiver<Outcome>,
    /// Requests that were removed for it: the caller refuses them with [`InferError::Overloaded`].
    pub evicted: Vec<Pending>,
}

/// What an instance has to do.
#[derive(Debug)]
pub enum Work {
    /// Run these, then [`Queue::finish`] them.
    Run(Batch),
    /// Reject these with this error.
    Reject(Vec<Pending>, InferError),
    /// Nothing, for as long as it was ready to wait.
    Rest,
}

impl Queue {
    /// An empty, open queue.
    pub fn new(policy: BatchPolicy) -> Self {
        let order = policy.preserve_ordering.then(ResponseOrder::default);
        let state = State { scheduler: Scheduler::new(policy), order, next_number: 0, open: true };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Accepts a request and wakes an instance.
    ///
    /// # Errors
    /// [`InferError::QueueFull`], [`InferError::Overloaded`] if its turn would come after its client has left, or
    /// [`InferError::ShuttingDown`] once closed.
    pub fn push(&self, request: InferRequest) -> Result<Ticket, InferError> {
        let ticket = self.accept(request)?;
        self.wake();
        Ok(ticket)
    }

    /// Accepts a request without waking an instance: [`wake`](Self::wake) does.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn accept(&self, request: InferRequest) -> Result<Ticket, InferError> {
        let (reply, outcome) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next_number()?;
        let queued = Instant::now();
        if state.scheduler.is_too_late(queued, &request) {
            return Err(InferError::Overloaded);
        }
        let evicted = state.scheduler.make_room(queued);
        evicted.iter().for_each(|pending| state.skip(pending.number));
        let pending = Pending { number, request, queued, reply };
        let Ok(rejected_at) = state.scheduler.push(pending) else {
            return Err(InferError::QueueFull);
        };
        if let Some(order) = &mut state.order {
            order.accept(number);
        }
        Ok(Ticket { number, rejected_at, outcome, evicted })
    }

    /// Wakes an instance that waits for work.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// The work for an idle instance if exactly one request waits and would not wait any longer.
    pub fn take_lone(&self) -> Option<Work> {
        let mut state = self.state.lock();
        if state.scheduler.len() != 1 {
            return None;
        }
        match state.scheduler.next(Instant::now()) {
            Next::Batch(batch) => Some(Work::Run(batch)),
            Next::Expired(expired) => Some(state.reject(expired, InferError::DeadlineExceeded)),
            Next::Overloaded(evicted) => Some(state.reject(evicted, InferError::Overloaded)),
            Next::Idle | Next::WaitUntil(_) => None,
        }
    }

    /// Sends a response that needed no run, after those of earlier requests if the order is kept.
    ///
    /// # Errors
    /// [`InferError::ShuttingDown`] once closed.
    pub fn answered(&self, outcome: Outcome) -> Result<oneshot::Receiver<Outcome>, InferError> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next_number()?;
        match &mut state.order {
            Some(order) => {
                order.accept(number);
                order.finish(number, reply, outcome);
            }
            None => {
                let _ = reply.send(outcome);
            }
        }
        Ok(receiver)
    }

    /// Removes a request, if it still waits: it will not run.
    pub fn remove(&self, number: u64) -> Option<Pending> {
        let mut state = self.state.lock();
        let pending = state.scheduler.remove(number)?;
        state.skip(number);
        Some(pending)
    }

    /// A request is cancelled: it leaves the queue, or the [`Cancel`] of its run. Returns it if it still waited.
    pub fn give_up(&self, number: u64) -> Option<Pending> {
        let (waited, ran) = {
            let mut state = self.state.lock();
            state.skip(number);
            state.scheduler.give_up(number, Instant::now())
        };
        if let Some(cancel) = ran {
            cancel.leave();
        }
        waited
    }

    /// Number of requests that wait.
    pub fn len(&self) -> usize {
        self.state.lock().scheduler.len()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of requests that run.
    pub fn running(&self) -> usize {
        self.state.lock().scheduler.running()
    }

    /// Blocks until there is work, or until `patience` is over. `None` once the queue is closed and empty.
    pub fn next(&self, patience: Option<Duration>) -> Option<Work> {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            match state.scheduler.next(now) {
                Next::Batch(batch) => {
                    // One push wakes one instance: if more requests wait, another one must look, too.
                    if !state.scheduler.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(Work::Run(batch));
                }
                Next::Expired(expired) => return Some(state.reject(expired, InferError::DeadlineExceeded)),
                Next::Overloaded(evicted) => return Some(state.reject(evicted, InferError::Overloaded)),
                Next::Idle if !state.open => return None,
                Next::Idle => match until {
                    None => self.changed.wait(&mut state),
                    Some(until) if until <= now => return Some(Work::Rest),
                    Some(until) => {
                        self.changed.wait_until(&mut state, until);
                    }
                },
                Next::WaitUntil(due) => {
                    self.changed.wait_until(&mut state, due.max(now + MIN_WAIT));
                }
            }
        }
    }

    /// From now on, requests share no batch. Returns whether they did until now.
    pub fn stop_batching(&self) -> bool {
        self.state.lock().scheduler.stop_batching()
    }

    /// Prepares a request of a failed batch to run again, alone. `None` if it has been cancelled.
    pub fn run_alone(&self, number: u64) -> Option<Arc<Cancel>> {
        self.state.lock().scheduler.run_alone(number)
    }

    /// Sends the outcomes of requests that have run. All are closed before the first is sent, so that a client
    /// that sends its next request at once is not counted as two.
    pub fn finish(&self, answers: Vec<(Pending, Outcome)>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for (pending, _) in &answers {
            state.scheduler.finish(pending.number, now);
        }
        if let Some(order) = &mut state.order {
            answers.into_iter().for_each(|(pending, outcome)| order.finish(pending.number, pending.reply, outcome));
            return;
        }
        drop(state);
        for (pending, outcome) in answers {
            // The receiver is gone if the client is.
            let _ = pending.reply.send(outcome);
        }
    }

    /// Refuses requests from now on; those that wait are still served.
    pub fn close(&self) {
        self.state.lock().open = false;
        self.changed.notify_all();
    }
}

impl State {
    fn next_number(&mut self) -> Result<u64, InferError> {
        if !self.open {
            return Err(InferError::ShuttingDown);
        }
        self.next_number += 1;
        Ok(self.next_number)
    }

    fn reject(&mut self, requests: Vec<Pending>, error: InferError) -> Work {
        requests.iter().for_each(|pending| self.skip(pending.number));
        Work::Reject(requests, error)
    }

    /// Lets later responses go without that of this request.
    fn skip(&mut self, number: u64) {
        if let Some(order) = &mut self.order {
            order.leave(number);
        }
    }
}

/// Shortest wait: a deadline that is almost reached must not make the loop spin.
const MIN_WAIT: Duration = Duration::from_micros(1);

#[cfg(test)]
mod tests;
