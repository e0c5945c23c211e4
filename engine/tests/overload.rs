//! Goodput of the scheduler under overload, with Poisson arrivals and clients that give up, in virtual time.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{
    BatchPolicy, DataType, Discipline, InferRequest, OutputSet, QueuePolicy, Shape, Tensor,
    batch::scheduler::{Batch, Next, Pending, Scheduler},
};
use tokio::sync::oneshot;

/// Time of a run of one row, in microseconds.
const RUN_US: u64 = 45_000;
/// Arrivals within this time count.
const PERIOD_US: u64 = 2000 * RUN_US;
/// A client that never gives up.
const FOR_EVER: u64 = u64::MAX / 2;

/// Numbers between 0 and 1: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The run on this instance ends, unless it has been stopped: then the instance has begun a later one.
    Done(usize, u64),
    /// A client loses patience.
    GiveUp(u64),
    Arrive(u64),
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    refused: usize,
    left: usize,
    /// Of the answered ones, ascending.
    latencies_us: Vec<u64>,
    longest_us: u64,
}

impl Outcome {
    fn p99_us(&self) -> u64 {
        self.latencies_us[self.latencies_us.len() * 99 / 100]
    }
}

struct Simulation {
    scheduler: Scheduler,
    max_batch_size: usize,
    /// Whether requests say when their clients give up.
    with_deadlines: bool,
    start: Instant,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// By instance: the number of its run, and the open requests in it.
    instances: Vec<(u64, Option<Batch>)>,
    /// When the requests without an outcome arrived.
    open: HashMap<u64, u64>,
    outcome: Outcome,
}

/// Time of a run of several rows. A batch of 8 takes as long as four rows alone; larger ones gain nothing, as on a CPU.
fn run_us(rows: usize, max_batch_size: usize) -> u64 {
    if max_batch_size > 8 { RUN_US * rows as u64 } else { RUN_US * (rows as u64 * 3 + 4) / 7 }
}

impl Simulation {
    fn new(discipline: Discipline, max_batch_size: usize, instances: usize) -> Self {
        let queue = QueuePolicy { max_queue_size: 1024, ..QueuePolicy::default() };
        let dynamic = max_batch_size > 1;
        let policy = BatchPolicy { max_batch_size, dynamic, queue, discipline, ..BatchPolicy::default() };
        Self {
            scheduler: Scheduler::new(policy),
            max_batch_size,
            with_deadlines: false,
            start: Instant::now(),
            now_us: 0,
            events: BinaryHeap::new(),
            instances: (0..instances).map(|_| (0, None)).collect(),
            open: HashMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Requests per second that all instances answer.
    fn capacity(&self) -> f64 {
        let of_one = self.max_batch_size as f64 / run_us(self.max_batch_size, self.max_batch_size) as f64 * 1e6;
        of_one * self.instances.len() as f64
    }

    /// Requests at these times, whose clients give up after these times.
    fn run(mut self, requests: &[(u64, u64)]) -> Outcome {
        for (number, &(at_us, _)) in requests.iter().enumerate() {
            self.events.push(Reverse((at_us, Event::Arrive(number as u64))));
        }
        while let Some(Reverse((at_us, event))) = self.events.pop() {
            self.now_us = at_us;
            match event {
                Event::Arrive(number) => self.arrive(number, requests[number as usize].1),
                Event::GiveUp(number) => self.give_up(number),
                Event::Done(instance, run) if self.instances[instance].0 == run => self.done(instance),
                Event::Done(..) => {}
            }
            self.dispatch();
        }
        assert!(self.open.is_empty(), "each request has an outcome");
        assert!(self.scheduler.is_empty() && self.scheduler.running() == 0);
        self.outcome.latencies_us.sort_unstable();
        let Outcome { answered, refused, left, .. } = self.outcome;
        assert_eq!(answered + refused + left, requests.len(), "exactly one");
        self.outcome
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.now_us)
    }

    fn arrive(&mut self, number: u64, patience_us: u64) {
        let now = self.now();
        let evicted = self.scheduler.make_room(now);
        self.refuse(evicted);
        let tensor = Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(b"x")).unwrap();
        let mut request = InferRequest::new(now, vec![Some(tensor)], 1, OutputSet::all(1));
        request.client_deadline = self.with_deadlines.then(|| now + Duration::from_micros(patience_us));
        self.open.insert(number, self.now_us);
        let is_too_late = self.scheduler.is_too_late(now, &request);
        let pending = Pending { number, request, queued: now, reply: oneshot::channel().0 };
        if is_too_late {
            return self.refuse(vec![pending]);
        }
        match self.scheduler.push(pending) {
            Ok(_) => self.events.push(Reverse((self.now_us + patience_us, Event::GiveUp(number)))),
            Err(pending) => self.refuse(vec![pending]),
        }
    }

    fn refuse(&mut self, requests: Vec<Pending>) {
        for pending in requests {
            let arrived = self.open.remove(&pending.number).unwrap();
            self.outcome.longest_us = self.outcome.longest_us.max(self.now_us - arrived);
            self.outcome.refused += 1;
        }
    }

    fn give_up(&mut self, number: u64) {
        if self.open.remove(&number).is_none() {
            return;
        }
        self.outcome.left += 1;
        let (_, ran) = self.scheduler.give_up(number, self.now());
        if let Some(cancel) = ran {
            cancel.leave();
            // The backend stops a run that nobody waits for.
            let stopped = |(_, batch): &&mut (u64, Option<Batch>)| {
                batch.as_ref().is_some_and(|batch| batch.cancel.is_cancelled())
            };
            if let Some(instance) = self.instances.iter_mut().find(|instance| stopped(instance)) {
                instance.1 = None;
            }
        }
    }

    fn done(&mut self, instance: usize) {
        let now = self.now();
        let Some(batch) = self.instances[instance].1.take() else { return };
        for pending in batch.requests {
            self.scheduler.finish(pending.number, now);
            if let Some(arrived) = self.open.remove(&pending.number) {
                let latency = self.now_us - arrived;
                self.outcome.answered += 1;
                self.outcome.latencies_us.push(latency);
                self.outcome.longest_us = self.outcome.longest_us.max(latency);
            }
        }
    }

    fn dispatch(&mut self) {
        while let Some(instance) = self.instances.iter().position(|(_, batch)| batch.is_none()) {
            match self.scheduler.next(self.now()) {
                Next::Batch(batch) => {
                    let (run, slot) = &mut self.instances[instance];
                    *run += 1;
                    let ends = self.now_us + run_us(batch.requests.len(), self.max_batch_size);
                    self.events.push(Reverse((ends, Event::Done(instance, *run))));
                    *slot = Some(batch);
                }
                Next::Overloaded(evicted) => self.refuse(evicted),
                Next::Expired(_) | Next::WaitUntil(_) => unreachable!("no request has a deadline"),
                Next::Idle => return,
            }
        }
    }
}

/// Poisson arrivals at `load` times the capacity of the simulation; the patience of each is one of `patience_us`.
fn poisson(simulation: &Simulation, load: f64, patience_us: &[u64], seed: u64) -> Vec<(u64, u64)> {
    let mut random = Random(seed);
    let mean_us = 1e6 / (load * simulation.capacity());
    let mut at_us = 0.0;
    let mut requests = Vec::new();
    while at_us < PERIOD_US as f64 {
        at_us -= (1.0 - random.next()).ln() * mean_us;
        requests.push((at_us as u64, patience_us[(random.next() * patience_us.len() as f64) as usize]));
    }
    requests
}

/// The outcome of a load, and the part of the capacity that was answered in time.
fn measure(
    discipline: Discipline,
    (max_batch_size, instances): (usize, usize),
    load: f64,
    patience_us: &[u64],
    seed: u64,
) -> (Outcome, f64) {
    let simulation = Simulation::new(discipline, max_batch_size, instances);
    let capacity = simulation.capacity();
    let requests = poisson(&simulation, load, patience_us, seed);
    let outcome = simulation.run(&requests);
    let answered = outcome.answered as f64 / (PERIOD_US as f64 / 1e6);
    (outcome, answered / capacity)
}

const TEN_RUNS: u64 = 10 * RUN_US;
/// A batch of 8 takes four times as long as one row.
const TEN_BATCHES: u64 = 40 * RUN_US;
const SERVERS: [((usize, usize), u64); 5] =
    [((1, 1), TEN_RUNS), ((1, 4), TEN_RUNS), ((8, 1), TEN_BATCHES), ((8, 2), TEN_BATCHES), ((32, 1), TEN_RUNS)];

#[test]
fn below_capacity_nothing_is_refused_and_the_latencies_are_those_of_fifo() {
    for (server, patience) in SERVERS {
        for (load, seed) in [(0.5, 1), (0.5, 2), (0.8, 1), (0.8, 2), (0.8, 3)] {
            let (fifo, _) = measure(Discipline::Fifo, server, load, &[patience], seed);
            let (adaptive, _) = measure(Discipline::Adaptive, server, load, &[patience], seed);
            let case = format!("{server:?}, load {load}, seed {seed}");
            assert_eq!(adaptive.refused, 0, "{case}");
            assert!(adaptive.p99_us() <= fifo.p99_us(), "{case}");
            assert!(adaptive.answered * 100 >= fifo.answered * 99, "{case}");
        }
    }
}

#[test]
fn at_and_above_capacity_nine_tenths_of_it_are_answered_in_time() {
    for (server, patience) in SERVERS {
        for (load, seed) in [(1.0, 1), (1.0, 2), (1.0, 3), (1.5, 1), (3.0, 1), (3.0, 2), (10.0, 1)] {
            let (_, goodput) = measure(Discipline::Adaptive, server, load, &[patience], seed);
            assert!(goodput >= 0.9, "{server:?}, load {load}, seed {seed}: {goodput}");
        }
    }
}

/// Requests with a deadline are refused at once if it cannot be met. With one request to a run the time is known, and no
/// client waits in vain.
#[test]
fn requests_that_cannot_meet_their_deadline_are_refused_at_once() {
    for (server, patience) in SERVERS {
        for (load, seed) in [(0.8, 1), (1.0, 1), (1.0, 2), (1.5, 1), (3.0, 1), (10.0, 1)] {
            let mut simulation = Simulation::new(Discipline::Adaptive, server.0, server.1);
            simulation.with_deadlines = true;
            let capacity = simulation.capacity() * PERIOD_US as f64 / 1e6;
            let requests = poisson(&simulation, load, &[patience], seed);
            let outcome = simulation.run(&requests);
            let goodput = outcome.answered as f64 / capacity;
            let case = format!("{server:?}, load {load}, seed {seed}: {goodput}, {} left", outcome.left);
            assert!(goodput >= 0.9_f64.min(load * 0.95), "{case}");
            assert!(server != (1, 1) || outcome.left == 0, "{case}");
        }
    }
}

#[test]
fn first_in_first_out_alone_loses_nearly_all_of_it() {
    let (_, goodput) = measure(Discipline::Fifo, (1, 1), 3.0, &[TEN_RUNS], 1);
    assert!(goodput < 0.25, "{goodput}");
}

#[test]
fn clients_of_different_patience_share_the_capacity_and_none_waits_for_ever() {
    for (server, patience) in SERVERS {
        let patience = [patience, 4 * patience, FOR_EVER];
        for load in [1.0, 3.0, 10.0] {
            let (outcome, goodput) = measure(Discipline::Adaptive, server, load, &patience, 7);
            // Just at capacity, requests of hasty clients share batches, and their waits, with those of patient ones.
            let least = if load > 1.0 || server.0 == 1 { 0.9 } else { 0.85 };
            assert!(goodput >= least, "{server:?}, load {load}: {goodput}");
            assert!(outcome.longest_us <= 8 * patience[0], "{server:?}, load {load}: {}", outcome.longest_us);
        }
    }
}

#[test]
fn a_burst_that_is_answered_in_time_loses_nothing() {
    let burst: Vec<_> = (0..20).map(|_| (0, 21 * RUN_US)).collect();
    let outcome = Simulation::new(Discipline::Adaptive, 1, 1).run(&burst);
    assert_eq!((outcome.answered, outcome.longest_us), (20, 20 * RUN_US));
    // The same after clients have left a burst that was too large.
    let large = (0..40).map(|_| (0, 10 * RUN_US));
    let later = (0..20).map(|_| (100 * RUN_US, 21 * RUN_US));
    let outcome = Simulation::new(Discipline::Adaptive, 1, 1).run(&large.chain(later).collect::<Vec<_>>());
    assert!(outcome.answered >= 29, "{outcome:?}");
    assert_eq!(outcome.longest_us, 20 * RUN_US);
}

/// Patient clients that always have a request open keep a queue for ever, and lose nothing by it.
#[test]
fn patient_clients_are_served_first_in_first_out() {
    let requests: Vec<_> = (0..500).map(|number| (number * RUN_US / 2, FOR_EVER)).collect();
    let run = |discipline| Simulation::new(discipline, 1, 1).run(&requests);
    let (adaptive, fifo) = (run(Discipline::Adaptive), run(Discipline::Fifo));
    assert_eq!((adaptive.answered, adaptive.latencies_us), (500, fifo.latencies_us));
}
