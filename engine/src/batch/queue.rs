//! The bounded queue in front of a model's instances: expiry, cancellation, priority, exact accounting.
//!
//! [`Lines`] is the queue without clock and threads; [`Queue`] adds both.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::policy::{Decision, QueueView, decide};
use crate::{
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse},
    spec::BatchPolicy,
};

/// What becomes of a request.
pub type Outcome = Result<InferResponse, InferError>;

/// A request in the queue, or taken out of it to be run.
#[derive(Debug)]
pub struct Pending {
    /// Names the request in [`Queue::remove`].
    pub ticket: u64,
    /// The request.
    pub request: InferRequest,
    /// When it was accepted.
    pub queued: Instant,
    /// Where its outcome goes.
    pub reply: oneshot::Sender<Outcome>,
}

impl Pending {
    /// Whether the two may share a batch: equal shapes but for the rows.
    fn joins(&self, other: &Self) -> bool {
        self.request
            .inputs
            .iter()
            .zip(&other.request.inputs)
            .all(|(a, b)| a.shape().dims().get(1..) == b.shape().dims().get(1..))
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.request.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// What an idle instance gets from [`Lines::next`].
#[derive(Debug)]
pub enum Next {
    /// Requests to run together.
    Batch(Vec<Pending>),
    /// Nothing to run before this time.
    WaitUntil(Instant),
    /// Nothing to run.
    Idle,
}

/// The waiting requests in the order of their priority, and of their arrival within one.
#[derive(Debug)]
pub struct Lines {
    policy: BatchPolicy,
    waiting: VecDeque<Pending>,
}

impl Lines {
    /// An empty queue.
    pub fn new(policy: BatchPolicy) -> Self {
        Self { policy, waiting: VecDeque::new() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a request behind those of its priority; gives it back if there is no room.
    ///
    /// # Errors
    /// The request, when the queue is full.
    #[allow(clippy::result_large_err)] // The request comes back by value: it must not be lost.
    pub fn push(&mut self, pending: Pending) -> Result<(), Pending> {
        if self.waiting.len() >= self.policy.max_queue_size {
            return Err(pending);
        }
        let behind = self.waiting.iter().rposition(|other| other.request.priority <= pending.request.priority);
        self.waiting.insert(behind.map_or(0, |at| at + 1), pending);
        Ok(())
    }

    /// Takes a request out, if it still waits.
    pub fn remove(&mut self, ticket: u64) -> Option<Pending> {
        let at = self.waiting.iter().position(|pending| pending.ticket == ticket)?;
        self.waiting.remove(at)
    }

    /// Takes out all requests whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<Pending> {
        if !self.waiting.iter().any(|pending| pending.is_expired(now)) {
            return Vec::new();
        }
        let (expired, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(|pending| pending.is_expired(now));
        self.waiting = waiting.into();
        expired
    }

    /// What an idle instance should do now. Call [`expire`](Self::expire) with the same time first.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(first) = self.waiting.front() else {
            return Next::Idle;
        };
        let joining: Vec<usize> =
            (0..self.waiting.len()).filter(|&at| self.waiting[at].joins(first)).take(self.limit()).collect();
        let rows: Vec<usize> = joining.iter().map(|&at| self.waiting[at].request.rows).collect();
        let view =
            QueueView { rows: &rows, others_wait: joining.len() < self.waiting.len(), waiting_since: first.queued };
        match decide(now, &view, &self.policy) {
            Decision::Idle => Next::Idle,
            Decision::WaitUntil(due) => {
                let deadline = self.waiting.iter().filter_map(|pending| pending.request.deadline).min();
                Next::WaitUntil(deadline.map_or(due, |deadline| due.min(deadline)))
            }
            Decision::Dispatch(n) => {
                // From the back, so that the positions in front stay true.
                let mut batch: Vec<_> = joining[..n].iter().rev().filter_map(|&at| self.waiting.remove(at)).collect();
                batch.reverse();
                Next::Batch(batch)
            }
        }
    }

    /// Requests worth looking at: every row counts at least one, and one more shows that the batch is full.
    fn limit(&self) -> usize {
        self.policy.max_batch_size.saturating_add(1)
    }
}

/// The queue as the server's tasks and the instances' threads share it.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: Lines,
    next_ticket: u64,
    open: bool,
}

/// A place in the queue: what [`Queue::push`] gives.
#[derive(Debug)]
pub struct Place {
    /// Names the request in [`Queue::remove`].
    pub ticket: u64,
    /// Brings the outcome.
    pub outcome: oneshot::Receiver<Outcome>,
}

impl Queue {
    /// An empty, open queue.
    pub fn new(policy: BatchPolicy) -> Self {
        let state = State { lines: Lines::new(policy), next_ticket: 0, open: true };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Accepts a request.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`] with Triton's words, or [`ErrorKind::Unavailable`] once closed.
    pub fn push(&self, request: InferRequest) -> Result<Place, InferError> {
        let (reply, outcome) = oneshot::channel();
        let ticket = {
            let mut state = self.state.lock();
            if !state.open {
                return Err(InferError::new(ErrorKind::Unavailable, "Server exiting"));
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            let pending = Pending { ticket, request, queued: Instant::now(), reply };
            if state.lines.push(pending).is_err() {
                return Err(InferError::new(ErrorKind::QueueFull, "Exceeds maximum queue size"));
            }
            ticket
        };
        self.changed.notify_one();
        Ok(Place { ticket, outcome })
    }

    /// Takes a request out, if it still waits: afterwards it will not run.
    pub fn remove(&self, ticket: u64) -> Option<Pending> {
        self.state.lock().lines.remove(ticket)
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.state.lock().lines.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a batch. Expired requests go to `expired` as they are found. `None` once the queue is
    /// closed and empty.
    pub fn next_batch(&self, mut expired: impl FnMut(Pending)) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            state.lines.expire(now).into_iter().for_each(&mut expired);
            match state.lines.next(now) {
                Next::Batch(batch) => {
                    // One push wakes one instance: if more waits, the next one must look too.
                    if !state.lines.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(batch);
                }
                Next::Idle if !state.open => return None,
                Next::Idle => self.changed.wait(&mut state),
                Next::WaitUntil(due) => {
                    self.changed.wait_until(&mut state, due.max(now + MIN_WAIT));
                }
            }
        }
    }

    /// Refuses requests from now on; what waits already is still served.
    pub fn close(&self) {
        self.state.lock().open = false;
        self.changed.notify_all();
    }
}

/// Keeps a deadline that is all but reached from spinning.
const MIN_WAIT: Duration = Duration::from_micros(1);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;
    use quintet_proto::DataType;

    use super::*;
    use crate::{
        request::{OutputSet, StageTimings},
        tensor::{Shape, Tensor},
    };

    const MAX_ROWS: usize = 8;
    const MAX_QUEUE: usize = 20;

    fn policy(delay: Duration) -> BatchPolicy {
        BatchPolicy { max_batch_size: MAX_ROWS, dynamic: true, max_queue_delay: delay, max_queue_size: MAX_QUEUE }
    }

    fn pending(
        ticket: u64,
        rows: usize,
        width: usize,
        priority: u32,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Pending {
        let data = Bytes::from(vec![0; rows * width]);
        let input = Tensor::new(DataType::Uint8, Shape::new([rows, width]), data).unwrap();
        let request = InferRequest {
            started: now,
            inputs: vec![input],
            rows,
            outputs: OutputSet::all(1),
            priority,
            deadline,
            timings: StageTimings::default(),
        };
        Pending { ticket, request, queued: now, reply: oneshot::channel().0 }
    }

    /// One step of a random history, on a clock that only the test moves.
    #[derive(Clone, Debug)]
    enum Step {
        Push { rows: usize, width: usize, priority: u32, ttl_ms: Option<u64> },
        Cancel { ticket: u64 },
        Poll,
        Advance { ms: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..=MAX_ROWS, 1usize..3, 0u32..3, prop::option::of(0u64..30))
                .prop_map(|(rows, width, priority, ttl_ms)| Step::Push { rows, width, priority, ttl_ms }),
            1 => (0u64..60).prop_map(|ticket| Step::Cancel { ticket }),
            3 => Just(Step::Poll),
            2 => (0u64..10).prop_map(|ms| Step::Advance { ms }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn invariants_hold_on_every_path(steps in prop::collection::vec(step(), 0..120), delay_ms in 0u64..5) {
            let delay = Duration::from_millis(delay_ms);
            let mut lines = Lines::new(policy(delay));
            let mut now = Instant::now();
            let (mut accepted, mut ended, mut tickets) = (HashSet::new(), HashSet::new(), 0u64);
            for step in steps {
                match step {
                    Step::Push { rows, width, priority, ttl_ms } => {
                        let deadline = ttl_ms.map(|ms| now + Duration::from_millis(ms));
                        let ticket = tickets;
                        tickets += 1;
                        let was = lines.len();
                        match lines.push(pending(ticket, rows, width, priority, deadline, now)) {
                            Ok(()) => { accepted.insert(ticket); }
                            Err(refused) => {
                                prop_assert_eq!(refused.ticket, ticket);
                                prop_assert_eq!(was, MAX_QUEUE, "refused only when full");
                            }
                        }
                    }
                    Step::Cancel { ticket } => {
                        let waits = accepted.contains(&ticket) && !ended.contains(&ticket);
                        let removed = lines.remove(ticket);
                        prop_assert_eq!(removed.is_some(), waits);
                        if waits { prop_assert!(ended.insert(ticket), "one outcome each"); }
                    }
                    Step::Advance { ms } => now += Duration::from_millis(ms),
                    Step::Poll => {
                        for expired in lines.expire(now) {
                            prop_assert!(expired.is_expired(now));
                            prop_assert!(ended.insert(expired.ticket), "one outcome each");
                        }
                        let before: Vec<_> = lines.waiting.iter()
                            .map(|p| (p.request.priority, p.ticket, p.request.inputs[0].shape().dims()[1])).collect();
                        match lines.next(now) {
                            Next::Idle => prop_assert!(lines.is_empty()),
                            Next::WaitUntil(due) => prop_assert!(due > now && due <= now + delay),
                            Next::Batch(batch) => {
                                prop_assert!(batch.iter().map(|p| p.request.rows).sum::<usize>() <= MAX_ROWS);
                                let width = batch[0].request.inputs[0].shape().dims()[1];
                                let served: Vec<_> = batch.iter().map(|p| p.ticket).collect();
                                // First in, first out within a priority and shape: what was served is a
                                // prefix of what waited with the head's shape, in queue order.
                                let line: Vec<_> = before.iter().filter(|w| w.2 == width).map(|w| w.1).collect();
                                prop_assert_eq!(&served[..], &line[..served.len()]);
                                prop_assert_eq!(batch[0].ticket, before[0].1, "the head is never passed over");
                                prop_assert!(before.is_sorted(), "priority, then arrival");
                                for p in &batch {
                                    prop_assert!(!p.is_expired(now), "expired work never runs");
                                    prop_assert!(ended.insert(p.ticket), "one outcome each; cancelled work never runs");
                                }
                            }
                        }
                    }
                }
                prop_assert_eq!(lines.len(), accepted.len() - ended.len(), "the queue's length is exact");
                prop_assert!(lines.len() <= MAX_QUEUE);
            }
        }
    }

    #[test]
    fn a_closed_queue_serves_what_waits_and_refuses_the_rest() {
        let queue = Queue::new(policy(Duration::ZERO));
        let request = || pending(0, 1, 1, 0, None, Instant::now()).request;
        queue.push(request()).unwrap();
        queue.close();
        assert_eq!(queue.push(request()).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(queue.next_batch(|_| panic!("none expired")).unwrap().len(), 1);
        assert!(queue.next_batch(|_| panic!("none expired")).is_none());
    }

    #[test]
    fn a_full_queue_refuses_with_tritons_words() {
        let queue = Queue::new(BatchPolicy { max_queue_size: 1, ..policy(Duration::ZERO) });
        let request = || pending(0, 1, 1, 0, None, Instant::now()).request;
        let first = queue.push(request()).unwrap();
        let error = queue.push(request()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::QueueFull, "Exceeds maximum queue size"));
        assert!(queue.remove(first.ticket).is_some());
        queue.push(request()).unwrap();
    }
}
