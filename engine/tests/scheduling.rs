//! The scheduler's invariants, for random histories and a clock that only the test advances.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests may, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use quintet_engine::{
    BatchPolicy, DataType, Discipline, InferRequest, OutputSet, QueuePolicy, Shape, StageTimings, Tensor,
    TimeoutAction,
    batch::scheduler::{Next, Pending, Scheduler},
};
use tokio::sync::oneshot;

const MAX_ROWS: usize = 8;
const MAX_QUEUE: usize = 12;
const LEVELS: u32 = 3;
/// No input is omitted.
const ALL: usize = 3;
/// The level whose requests are delayed, not rejected, after their deadline.
const PATIENT: u32 = 2;

fn policy(delay: Duration, preferred_batch_sizes: Vec<usize>) -> BatchPolicy {
    let queue = QueuePolicy { max_queue_size: MAX_QUEUE, allow_timeout_override: true, ..QueuePolicy::default() };
    let patient = QueuePolicy { timeout_action: TimeoutAction::Delay, ..queue.clone() };
    BatchPolicy {
        max_batch_size: MAX_ROWS,
        dynamic: true,
        max_queue_delay: delay,
        preferred_batch_sizes,
        discipline: Discipline::Fifo,
        preserve_ordering: false,
        priority_levels: LEVELS,
        default_priority: 1,
        queue,
        priority_queues: BTreeMap::from([(PATIENT, patient)]),
    }
}

/// What the test knows of a request that waits.
#[derive(Clone, Copy, Debug)]
struct Known {
    level: u32,
    width: usize,
    /// Which of the three inputs is omitted, if any.
    left_out: usize,
    rows: usize,
    deadline: Option<Instant>,
    queued: Instant,
}

impl Known {
    /// Sorts in the order of service.
    fn position(&self, number: u64, now: Instant) -> (u32, bool, u64) {
        (self.level, self.deadline.is_some_and(|deadline| deadline <= now), number)
    }

    /// Whether both may share a batch.
    fn fits(&self, other: &Self) -> bool {
        (self.width, self.left_out) == (other.width, other.left_out)
    }
}

fn pending(number: u64, known: Known, priority: u32) -> Pending {
    let Known { rows, width, left_out, deadline, queued, .. } = known;
    let tensor = Tensor::new(DataType::Uint8, Shape::new([rows, width]), Bytes::from(vec![0; rows * width])).unwrap();
    let request = InferRequest {
        started: queued,
        inputs: (0..3).map(|input| (input != left_out).then(|| tensor.clone())).collect(),
        rows,
        outputs: OutputSet::all(1),
        output_memory: Vec::new(),
        priority,
        deadline,
        client_deadline: None,
        timings: StageTimings::default(),
    };
    Pending { number, request, queued, reply: oneshot::channel().0 }
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        rows: usize,
        width: usize,
        left_out: usize,
        priority: u32,
        ttl_ms: Option<u64>,
    },
    /// The client of the request leaves, whether the request waits, runs or has ended.
    Leave {
        number: u64,
    },
    /// Any instance asks for work.
    Ask,
    /// A running instance is done.
    Finish {
        which: prop::sample::Index,
    },
    Advance {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=MAX_ROWS, 1usize..3, 0..=ALL, 0..=LEVELS + 1, prop::option::of(0u64..30))
            .prop_map(|(rows, width, left_out, priority, ttl_ms)| Step::Push { rows, width, left_out, priority, ttl_ms }),
        1 => (0u64..60).prop_map(|number| Step::Leave { number }),
        4 => Just(Step::Ask),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Finish { which }),
        2 => (0u64..10).prop_map(|ms| Step::Advance { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn invariants_hold_on_every_path(
        steps in prop::collection::vec(step(), 0..150),
        delay_ms in 0u64..5,
        preferred in prop::collection::vec(1..=MAX_ROWS, 0..3),
    ) {
        let delay = Duration::from_millis(delay_ms);
        let prefers = !preferred.is_empty();
        let policy = policy(delay, preferred);
        let mut scheduler = Scheduler::new(policy.clone());
        let mut now = Instant::now();
        let mut waiting: BTreeMap<u64, Known> = BTreeMap::new();
        let mut running: Vec<Vec<u64>> = Vec::new();
        let mut ended: BTreeSet<u64> = BTreeSet::new();
        let mut accepted = 0;
        // At the end, instances ask until nothing waits.
        let drain = [Step::Advance { ms: 1000 }].into_iter().chain((0..200).map(|_| Step::Ask));
        for (number, step) in steps.into_iter().chain(drain).enumerate() {
            let number = number as u64;
            match step {
                Step::Push { rows, width, left_out, priority, ttl_ms } => {
                    let level = if (1..=LEVELS).contains(&priority) { priority } else { 1 };
                    let deadline = ttl_ms.map(|ms| now + Duration::from_millis(ms));
                    let known = Known { level, width, left_out, rows, deadline, queued: now };
                    let of_level = waiting.values().filter(|other| other.level == level).count();
                    match scheduler.push(pending(number, known, priority)) {
                        Ok(rejected_at) => {
                            prop_assert_eq!(rejected_at, deadline.filter(|_| level != PATIENT));
                            waiting.insert(number, known);
                            accepted += 1;
                        }
                        Err(refused) => {
                            prop_assert_eq!(refused.number, number);
                            prop_assert_eq!(of_level, MAX_QUEUE, "refused only when its queue is full");
                        }
                    }
                }
                Step::Leave { number } => {
                    let runs = running.iter().find(|batch| batch.contains(&number) && !ended.contains(&number)).cloned();
                    prop_assert_eq!(scheduler.remove(number).is_some(), waiting.remove(&number).is_some());
                    let closed = scheduler.close(number);
                    prop_assert_eq!(closed.is_some(), runs.is_some());
                    if let (Some(cancel), Some(batch)) = (closed, runs) {
                        ended.insert(number);
                        cancel.leave();
                        let alone = batch.iter().all(|number| ended.contains(number));
                        prop_assert_eq!(cancel.is_cancelled(), alone, "a run is stopped when all of its requests are cancelled");
                    }
                }
                Step::Finish { which } => {
                    if !running.is_empty() {
                        for number in running.swap_remove(which.index(running.len())) {
                            prop_assert_eq!(scheduler.close(number).is_some(), ended.insert(number), "one outcome each");
                        }
                    }
                }
                Step::Advance { ms } => now += Duration::from_millis(ms),
                Step::Ask => {
                    let mut line: Vec<_> = waiting.iter().map(|(&number, known)| (known.position(number, now), *known)).collect();
                    line.sort_by_key(|(position, _)| *position);
                    match scheduler.next(now) {
                        Next::Idle => prop_assert!(waiting.is_empty()),
                        Next::WaitUntil(due) => {
                            let oldest = waiting.values().map(|known| known.queued).min().unwrap();
                            prop_assert!(due > now && due <= oldest + delay, "no request waits past the delay while an instance is idle");
                        }
                        Next::Overloaded(_) => prop_assert!(false, "the order is fixed"),
                        Next::Expired(expired) => for pending in expired {
                            let known = waiting.remove(&pending.number).unwrap();
                            prop_assert!(known.deadline.is_some_and(|deadline| deadline <= now));
                            prop_assert!(known.level != PATIENT);
                        },
                        Next::Batch(batch) => {
                            let served: Vec<_> = batch.requests.iter().map(|pending| pending.number).collect();
                            let head = line[0];
                            prop_assert_eq!(head.0.2, served[0], "the first request is always served");
                            // First in, first out within a priority, a shape and a set of omitted inputs.
                            let mates: Vec<_> = line.iter().filter(|(_, known)| known.fits(&head.1)).collect();
                            let expected: Vec<_> = mates.iter().take(served.len()).map(|(position, _)| position.2).collect();
                            prop_assert_eq!(&served, &expected);
                            let rows: usize = served.iter().map(|number| waiting[number].rows).sum();
                            prop_assert!(rows <= MAX_ROWS);
                            let next = mates.get(served.len()).map_or(MAX_ROWS, |(_, known)| known.rows);
                            prop_assert!(prefers || next + rows > MAX_ROWS || mates.len() == served.len(), "as many as fit");
                            for number in &served {
                                let known = waiting.remove(number).unwrap();
                                let late = known.deadline.is_some_and(|deadline| deadline <= now);
                                prop_assert!(!late || known.level == PATIENT, "expired work never runs");
                            }
                            running.push(served);
                        }
                    }
                }
            }
            prop_assert_eq!(scheduler.len(), waiting.len(), "the queue's length is exact");
            let open = running.iter().flatten().filter(|number| !ended.contains(number)).count();
            prop_assert_eq!(scheduler.running(), open);
        }
        prop_assert!(scheduler.is_empty(), "{} of {} accepted requests were forgotten", scheduler.len(), accepted);
    }
}

/// Clients of an idle instance, and how long each request waits.
struct Clients {
    scheduler: Scheduler,
    now: Instant,
    next_number: u64,
}

impl Clients {
    fn new(delay_ms: u64) -> Self {
        let scheduler = Scheduler::new(policy(Duration::from_millis(delay_ms), vec![]));
        Self { scheduler, now: Instant::now(), next_number: 0 }
    }

    fn send(&mut self) {
        let known = Known { level: 1, width: 1, left_out: ALL, rows: 1, deadline: None, queued: self.now };
        self.scheduler.push(pending(self.next_number, known, 1)).unwrap();
        self.next_number += 1;
    }

    /// Runs the next batch; returns its number of requests and how long they waited.
    fn run(&mut self) -> (usize, Duration) {
        let asked = self.now;
        loop {
            match self.scheduler.next(self.now) {
                Next::Batch(batch) => {
                    for pending in &batch.requests {
                        self.scheduler.close(pending.number);
                    }
                    return (batch.requests.len(), self.now - asked);
                }
                Next::WaitUntil(due) => self.now = due,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_requests_of_a_lone_client_do_not_wait() {
    let mut clients = Clients::new(10);
    for _ in 0..100 {
        clients.send();
        assert_eq!(clients.run(), (1, Duration::ZERO));
        clients.now += Duration::from_millis(1);
    }
}

#[test]
fn a_batch_waits_for_as_many_clients_as_were_active() {
    let mut clients = Clients::new(10);
    (0..3).for_each(|_| clients.send());
    assert_eq!(clients.run(), (3, Duration::ZERO), "every active client has an open request");
    // Two send again at once: the third has the delay to do so.
    (0..2).for_each(|_| clients.send());
    assert_eq!(clients.run(), (2, Duration::from_millis(10)));
    // It did not, so the next batch does not wait for it.
    (0..2).for_each(|_| clients.send());
    assert_eq!(clients.run(), (2, Duration::ZERO));
    clients.send();
    assert_eq!(clients.run(), (1, Duration::from_millis(10)));
    clients.send();
    assert_eq!(clients.run(), (1, Duration::ZERO));
}

#[test]
fn ten_thousand_requests_of_ten_thousand_shapes_are_served() {
    let size = QueuePolicy { max_queue_size: 10_000, ..QueuePolicy::default() };
    let mut scheduler =
        Scheduler::new(BatchPolicy { max_batch_size: 8, dynamic: true, queue: size, ..BatchPolicy::default() });
    let now = Instant::now();
    for number in 0..10_000 {
        let known = Known { level: 0, width: 1 + number as usize, left_out: ALL, rows: 1, deadline: None, queued: now };
        // Only the shape matters: the tensor has no elements.
        let mut pending = pending(number, Known { width: 1, ..known }, 0);
        pending.request.inputs =
            vec![Some(Tensor::new(DataType::Uint8, Shape::new([1, known.width, 0]), Bytes::new()).unwrap())];
        scheduler.push(pending).unwrap();
    }
    for number in 0..10_000 {
        match scheduler.next(now) {
            Next::Batch(batch) => assert_eq!(batch.requests[0].number, number),
            other => panic!("{other:?}"),
        }
    }
    assert!(scheduler.is_empty());
}
