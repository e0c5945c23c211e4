//! The queue without clock and threads: who waits, who runs, and who is next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use super::decision::{Decision, QueueView, decide};
use crate::{
    cancel::Cancel,
    error::InferError,
    request::{InferRequest, InferResponse},
    spec::{BatchPolicy, TimeoutAction},
};

/// What becomes of a request.
pub type Outcome = Result<InferResponse, InferError>;

/// A request in the queue, or taken out of it to be run.
#[derive(Debug)]
pub struct Pending {
    /// Names the request. A later request has a higher one.
    pub number: u64,
    /// The request.
    pub request: InferRequest,
    /// When it was accepted.
    pub queued: Instant,
    /// Where its outcome goes.
    pub reply: oneshot::Sender<Outcome>,
}

/// Requests to run together.
#[derive(Debug)]
pub struct Batch {
    /// At least one.
    pub requests: Vec<Pending>,
    /// Cancelled when all of them are.
    pub cancel: Arc<Cancel>,
}

/// What an idle instance gets from [`Scheduler::next`].
#[derive(Debug)]
pub enum Next {
    /// Requests to run.
    Batch(Batch),
    /// Requests whose time in the queue is over: they are to be rejected, then ask again.
    Expired(Vec<Pending>),
    /// Nothing to run before this time.
    WaitUntil(Instant),
    /// Nothing to run.
    Idle,
}

/// The order in which requests are served: by priority level, those delayed by a timeout behind the
/// others of their level, and by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    level: u32,
    delayed: bool,
    number: u64,
}

#[derive(Debug)]
struct Waiting {
    pending: Pending,
    position: Position,
    group: Arc<[usize]>,
    deadline: Option<Instant>,
}

/// In the name of a group: an input that is left out. (No dimension is as large: on the wire they are signed.)
const OMITTED: usize = usize::MAX;

/// The open requests: those that wait, in groups of those that may share a batch, and those that run.
///
/// Every operation takes time that is logarithmic in the number of open requests, for each request that
/// it moves.
#[derive(Debug)]
pub struct Scheduler {
    policy: BatchPolicy,
    /// By number, that is by arrival.
    waiting: BTreeMap<u64, Waiting>,
    positions: BTreeSet<Position>,
    /// The rows of the requests of equal shapes (but for the rows), in position.
    groups: HashMap<Arc<[usize]>, BTreeMap<Position, usize>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// How many wait of each level.
    levels: BTreeMap<u32, usize>,
    running: HashMap<u64, Arc<Cancel>>,
    /// How many requests are open at once when all clients that are about have one. Learned: it rises
    /// with what is seen, and falls to what there is when a wait for more brought nobody.
    expected: usize,
}

impl Scheduler {
    /// No requests.
    pub fn new(policy: BatchPolicy) -> Self {
        Self {
            policy,
            waiting: BTreeMap::new(),
            positions: BTreeSet::new(),
            groups: HashMap::new(),
            deadlines: BTreeSet::new(),
            levels: BTreeMap::new(),
            running: HashMap::new(),
            expected: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Adds a request; gives it back if the queue of its priority is full. Returns when it will be
    /// rejected unless it has been run by then.
    ///
    /// # Errors
    /// The request, when there is no room.
    #[allow(clippy::result_large_err)] // The request comes back by value: it must not be lost.
    pub fn push(&mut self, pending: Pending) -> Result<Option<Instant>, Pending> {
        let level = self.policy.level(pending.request.priority);
        let queue = self.policy.queue_of(level);
        let waiting = self.levels.entry(level).or_default();
        if *waiting >= queue.max_queue_size {
            return Err(pending);
        }
        *waiting += 1;
        let deadline = queue.deadline(pending.queued, pending.request.deadline);
        let rejected_at = deadline.filter(|_| queue.timeout_action == TimeoutAction::Reject);
        let number = pending.number;
        let position = Position { level, delayed: false, number };
        let group = self.group_of(&pending.request);
        self.groups.entry(Arc::clone(&group)).or_default().insert(position, pending.request.rows);
        self.positions.insert(position);
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        self.waiting.insert(number, Waiting { pending, position, group, deadline });
        self.expected = self.expected.max(self.open());
        Ok(rejected_at)
    }

    /// Takes a request out, if it still waits.
    pub fn remove(&mut self, number: u64) -> Option<Pending> {
        let waiting = self.waiting.remove(&number)?;
        self.positions.remove(&waiting.position);
        self.leave_group(&waiting.group, waiting.position);
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let Some(level) = self.levels.get_mut(&waiting.position.level) {
            *level -= 1;
        }
        Some(waiting.pending)
    }

    /// A request that runs has its outcome, or nobody waits for it any more: then its run is to be told.
    pub fn close(&mut self, number: u64) -> Option<Arc<Cancel>> {
        self.running.remove(&number)
    }

    /// A request of a batch that failed is run again, alone. `None` if it was given up meanwhile.
    pub fn run_alone(&mut self, number: u64) -> Option<Arc<Cancel>> {
        let cancel = self.running.get_mut(&number)?;
        *cancel = Arc::new(Cancel::new(1));
        Some(Arc::clone(cancel))
    }

    /// What an idle instance should do now.
    pub fn next(&mut self, now: Instant) -> Next {
        let expired = self.expire(now);
        if !expired.is_empty() {
            return Next::Expired(expired);
        }
        let (Some(first), Some((_, oldest))) = (self.positions.first(), self.waiting.first_key_value()) else {
            return Next::Idle;
        };
        let Some(group) = self.waiting.get(&first.number).and_then(|first| self.groups.get(&first.group)) else {
            return Next::Idle;
        };
        // Where no others wait, the oldest of all is the oldest of the group.
        let view = QueueView {
            rows: group.values().copied(),
            others_wait: group.len() < self.waiting.len(),
            waiting_since: oldest.pending.queued,
            company_expected: self.open() < self.expected,
        };
        match decide(now, view, &self.policy) {
            Decision::Idle => Next::Idle,
            Decision::WaitUntil(due) => {
                Next::WaitUntil(self.deadlines.first().map_or(due, |&(deadline, _)| due.min(deadline)))
            }
            Decision::Dispatch(n) => {
                if now >= oldest.pending.queued + self.policy.max_queue_delay {
                    self.expected = self.open();
                }
                let numbers: Vec<_> = group.keys().take(n).map(|position| position.number).collect();
                let cancel = Arc::new(Cancel::new(n));
                self.running.extend(numbers.iter().map(|&number| (number, Arc::clone(&cancel))));
                let requests = numbers.into_iter().filter_map(|number| self.remove(number)).collect();
                Next::Batch(Batch { requests, cancel })
            }
        }
    }

    fn open(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Takes out the requests that are to be rejected, and sends the others whose time is over behind.
    fn expire(&mut self, now: Instant) -> Vec<Pending> {
        let mut expired = Vec::new();
        while let Some(&(deadline, number)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(waiting) = self.waiting.get_mut(&number) else { continue };
            match self.policy.queue_of(waiting.position.level).timeout_action {
                TimeoutAction::Reject => expired.extend(self.remove(number)),
                TimeoutAction::Delay => {
                    waiting.deadline = None;
                    let before = waiting.position;
                    waiting.position.delayed = true;
                    self.positions.remove(&before);
                    self.positions.insert(waiting.position);
                    if let Some(group) = self.groups.get_mut(&waiting.group) {
                        group.remove(&before);
                        group.insert(waiting.position, waiting.pending.request.rows);
                    }
                }
            }
        }
        expired
    }

    /// Names the group of requests that this one may share a batch with: the shapes of its inputs but for
    /// the rows, and which it leaves out. Inputs have fixed ranks, so a plain list of the dimensions tells them apart.
    fn group_of(&self, request: &InferRequest) -> Arc<[usize]> {
        let mut dims = Vec::new();
        for input in &request.inputs {
            match input {
                Some(input) => dims.extend(input.shape().dims().iter().skip(1)),
                None => dims.push(OMITTED),
            }
        }
        match self.groups.get_key_value(&dims[..]) {
            Some((group, _)) => Arc::clone(group),
            None => dims.into(),
        }
    }

    fn leave_group(&mut self, name: &Arc<[usize]>, position: Position) {
        if let Some(group) = self.groups.get_mut(name) {
            group.remove(&position);
            if group.is_empty() {
                self.groups.remove(name);
            }
        }
    }
}
