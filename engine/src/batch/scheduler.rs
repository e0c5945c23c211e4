//! Which requests wait, which run, and which are next: the queue's state, without clock and threads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    decision::{Decision, QueueView, decide},
    overload::Overload,
};
use crate::{
    cancel::Cancel,
    error::InferError,
    request::{InferRequest, InferResponse},
    spec::{BatchPolicy, Discipline, TimeoutAction},
};

/// The result of a request.
pub type Outcome = Result<InferResponse, InferError>;

/// A request that waits or runs.
#[derive(Debug)]
pub struct Pending {
    /// Names the request; later requests have higher numbers.
    pub number: u64,
    /// The request.
    pub request: InferRequest,
    /// When it was accepted.
    pub queued: Instant,
    /// Sends its outcome.
    pub reply: oneshot::Sender<Outcome>,
}

/// Requests to run together.
#[derive(Debug)]
pub struct Batch {
    /// At least one.
    pub requests: Vec<Pending>,
    /// Cancelled when all of the requests are.
    pub cancel: Arc<Cancel>,
}

/// What an idle instance has to do.
#[derive(Debug)]
pub enum Next {
    /// Requests to run.
    Batch(Batch),
    /// Reject these requests, whose deadline has passed, and call [`Scheduler::next`] again.
    Expired(Vec<Pending>),
    /// Refuse these requests, which cannot be answered in time, and call [`Scheduler::next`] again.
    Overloaded(Vec<Pending>),
    /// Wait until this time, or for a request.
    WaitUntil(Instant),
    /// Wait for a request.
    Idle,
}

/// The position of a request in the order of service: by priority level, those delayed by a timeout after the
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

#[derive(Debug)]
struct Running {
    cancel: Arc<Cancel>,
    queued: Instant,
    started: Instant,
    /// Requests of its batch.
    batch: usize,
}

/// Stands for an omitted input in the name of a group. (No dimension is as large: on the wire they are signed.)
const OMITTED: usize = usize::MAX;

/// The open requests: those that wait, in groups that may share a batch, and those that run.
///
/// For each request that it moves, an operation takes O(log n) for n open requests.
#[derive(Debug)]
pub struct Scheduler {
    policy: BatchPolicy,
    /// By number, that is by arrival.
    waiting: BTreeMap<u64, Waiting>,
    positions: BTreeSet<Position>,
    /// The rows of the requests that may share a batch, in the order of service.
    groups: HashMap<Arc<[usize]>, BTreeMap<Position, usize>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Number of waiting requests by priority level.
    levels: BTreeMap<u32, usize>,
    running: HashMap<u64, Running>,
    /// Estimated number of active clients, each with one request. It rises to the number of open requests, and
    /// falls to it when waiting for more requests brought none.
    expected: usize,
    /// `None` if the order of requests is fixed.
    overload: Option<Overload>,
}

impl Scheduler {
    /// No requests.
    pub fn new(policy: BatchPolicy) -> Self {
        Self {
            overload: (policy.discipline == Discipline::Adaptive).then(Overload::default),
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

    /// Number of requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Number of requests that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether the requests before this one keep it from being answered until its client stops waiting, which is only
    /// known where the order is that of arrival. An idle instance is never kept from a request.
    pub fn is_too_late(&self, now: Instant, request: &InferRequest) -> bool {
        let (Some(overload), Some(deadline)) = (&self.overload, request.client_deadline) else { return false };
        let ahead = self.waiting.len();
        if ahead == 0 || overload.is_newest_first(now) {
            return false;
        }
        let ends = self.running.values().map(|running| running.started + overload.run_of(running.batch));
        let free = ends.min().map_or(now, |end| end.max(now));
        !overload.meets(free, deadline, ahead + 1, self.instances())
    }

    /// Adds a request. Returns when it is rejected if it still waits.
    ///
    /// # Errors
    /// The request, when the queue of its priority is full.
    #[allow(clippy::result_large_err)] // The caller gets the request back.
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

    /// Removes a request, if it still waits.
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

    /// A running request has no more part in its run.
    pub fn close(&mut self, number: u64) -> Option<Arc<Cancel>> {
        self.running.remove(&number).map(|running| running.cancel)
    }

    /// A running request has its outcome.
    pub fn finish(&mut self, number: u64, now: Instant) {
        let Some(Running { queued, started, batch, .. }) = self.running.remove(&number) else { return };
        if let Some(overload) = &mut self.overload {
            let since = |then| now.saturating_duration_since(then);
            overload.answered(now, since(queued), since(started), batch);
        }
    }

    /// The client of a request leaves. Returns the request if it waited, and the [`Cancel`] of its run, which the caller
    /// leaves, if it ran.
    pub fn give_up(&mut self, number: u64, now: Instant) -> (Option<Pending>, Option<Arc<Cancel>>) {
        let waited = self.remove(number);
        let ran = self.running.remove(&number);
        let queued = waited.as_ref().map(|pending| pending.queued).or(ran.as_ref().map(|running| running.queued));
        if let (Some(overload), Some(queued)) = (&mut self.overload, queued) {
            overload.left(now, now.saturating_duration_since(queued));
        }
        (waited, ran.map(|running| running.cancel))
    }

    /// Removes the requests that the next one to be pushed leaves no room for, if the queue is overloaded: the oldest.
    pub fn make_room(&mut self, now: Instant) -> Vec<Pending> {
        self.evict(now, 1)
    }

    /// From now on, requests share no batch. Returns whether they did until now.
    pub fn stop_batching(&mut self) -> bool {
        std::mem::replace(&mut self.policy.dynamic, false)
    }

    /// Prepares a request of a failed batch to run again, alone. `None` if it has been cancelled.
    pub fn run_alone(&mut self, number: u64) -> Option<Arc<Cancel>> {
        let running = self.running.get_mut(&number)?;
        running.cancel = Arc::new(Cancel::new(1));
        Some(Arc::clone(&running.cancel))
    }

    /// What an idle instance should do now.
    pub fn next(&mut self, now: Instant) -> Next {
        let expired = self.expire(now);
        if !expired.is_empty() {
            return Next::Expired(expired);
        }
        let overloaded = self.evict(now, 0);
        if !overloaded.is_empty() {
            return Next::Overloaded(overloaded);
        }
        let newest_first = self.is_newest_first(now);
        let first = if newest_first { self.positions.last() } else { self.positions.first() };
        let (Some(first), Some((_, oldest))) = (first, self.waiting.first_key_value()) else {
            return Next::Idle;
        };
        let Some(group) = self.waiting.get(&first.number).and_then(|first| self.groups.get(&first.group)) else {
            return Next::Idle;
        };
        // If no other requests wait, the oldest of all is the oldest of the group.
        let view = QueueView {
            rows: in_order(group, newest_first).map(|(_, &rows)| rows),
            others_wait: group.len() < self.waiting.len(),
            waiting_since: oldest.pending.queued,
            more_expected: self.open() < self.expected,
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
                let numbers = in_order(group, newest_first).take(n).map(|(position, _)| position.number);
                let mut numbers: Vec<_> = numbers.collect();
                numbers.truncate(self.answerable(now, &numbers));
                let n = numbers.len();
                let cancel = Arc::new(Cancel::new(n));
                let requests: Vec<_> = numbers.into_iter().filter_map(|number| self.remove(number)).collect();
                self.running.extend(requests.iter().map(|pending| {
                    let Pending { number, queued, .. } = *pending;
                    (number, Running { cancel: Arc::clone(&cancel), queued, started: now, batch: n })
                }));
                if let Some(overload) = &mut self.overload
                    && self.waiting.is_empty()
                {
                    overload.emptied();
                }
                Next::Batch(Batch { requests, cancel })
            }
        }
    }

    fn open(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn is_newest_first(&self, now: Instant) -> bool {
        self.overload.as_ref().is_some_and(|overload| overload.is_newest_first(now))
    }

    /// How many of these requests, at least one, can run together so that all are answered before their clients leave: by
    /// what the clients say, and by what is known of them if some have left lately.
    fn answerable(&self, now: Instant, numbers: &[u64]) -> usize {
        let Some(overload) = &self.overload else { return numbers.len() };
        let clients_leave = overload.limits_batches(now);
        let (mut oldest, mut deadline) = (now, None);
        let fits = |(index, number): &(usize, &u64)| {
            if let Some(Waiting { pending, .. }) = self.waiting.get(number) {
                oldest = oldest.min(pending.queued);
                deadline = deadline.into_iter().chain(pending.request.client_deadline).min();
            }
            let batch = index + 1;
            let meets = || deadline.is_none_or(|deadline| overload.meets(now, deadline, batch, 1));
            let fits = || !clients_leave || overload.fits(now.saturating_duration_since(oldest), batch);
            *index == 0 || (meets() && fits())
        };
        numbers.iter().enumerate().take_while(fits).count()
    }

    /// The number of instances that run requests.
    fn instances(&self) -> usize {
        // Each request is a part of an instance.
        let instances: f64 = self.running.values().map(|running| 1.0 / running.batch as f64).sum();
        instances.round() as usize
    }

    /// If the queue is overloaded, removes the oldest requests that cannot be answered before their clients leave, even
    /// if no others came, and those that have stood for too long. `coming` requests are about to be pushed.
    fn evict(&mut self, now: Instant, coming: usize) -> Vec<Pending> {
        let Some(overload) = self.overload.as_ref().filter(|overload| overload.is_newest_first(now)) else {
            return Vec::new();
        };
        let room = overload.room(now, self.instances()).min(self.policy.queue.max_queue_size);
        let longest_wait = overload.longest_wait();
        let mut evicted = Vec::new();
        while let Some((&number, oldest)) = self.waiting.first_key_value()
            && (self.waiting.len() + coming > room
                || now.saturating_duration_since(oldest.pending.queued) > longest_wait)
        {
            evicted.extend(self.remove(number));
        }
        if !evicted.is_empty()
            && let Some(overload) = &mut self.overload
        {
            overload.refused(now);
        }
        evicted
    }

    /// Removes the requests that are rejected at their deadline, and delays the others whose deadline has passed.
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

    /// The name of the group of requests that this one may share a batch with: the shapes of its inputs without
    /// the rows, and which inputs it omits. Ranks are fixed, so a plain list of the dimensions is unambiguous.
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

/// The requests of a group in the order of service.
fn in_order(group: &BTreeMap<Position, usize>, newest_first: bool) -> impl Iterator<Item = (&Position, &usize)> {
    let oldest_first = (!newest_first).then(|| group.iter()).into_iter().flatten();
    oldest_first.chain(newest_first.then(|| group.iter().rev()).into_iter().flatten())
}
