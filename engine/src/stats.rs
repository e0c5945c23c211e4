//! Exact counters of a model's requests, for metrics and statistics.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Index,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use crate::{
    backend::RunTimings,
    error::ErrorKind,
    request::{Stage, StageTimings},
};

/// Why a request failed; failures are counted by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The queue was full, or the request's time ran out in it.
    Rejected,
    /// The client went away.
    Cancelled,
    /// The model's run failed.
    Backend,
    /// Anything else.
    Other,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Cancelled, Self::Backend, Self::Other];
}

impl From<ErrorKind> for FailureReason {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::QueueFull | ErrorKind::NoMemory | ErrorKind::DeadlineExceeded => Self::Rejected,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Internal | ErrorKind::DeviceLost => Self::Backend,
            _ => Self::Other,
        }
    }
}

/// Failed requests by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures([u64; FailureReason::ALL.len()]);

impl Failures {
    /// The number of failed requests.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<FailureReason> for Failures {
    type Output = u64;

    fn index(&self, reason: FailureReason) -> &u64 {
        &self.0[reason as usize]
    }
}

/// The counters of one model. They only grow.
#[derive(Debug, Default)]
pub struct ModelStats {
    success: AtomicU64,
    failures: [AtomicU64; FailureReason::ALL.len()],
    inferences: AtomicU64,
    executions: AtomicU64,
    request_ns: AtomicU64,
    failure_ns: AtomicU64,
    queue_ns: AtomicU64,
    compute_input_ns: AtomicU64,
    compute_infer_ns: AtomicU64,
    compute_output_ns: AtomicU64,
    cache_hits: AtomicU64,
    cache_hit_ns: AtomicU64,
    cache_misses: AtomicU64,
    cache_miss_ns: AtomicU64,
    /// By number of rows; locked once for each run of the model.
    batches: Mutex<BTreeMap<usize, BatchStats>>,
    last_inference_ms: AtomicU64,
    on_success: OnceLock<OnSuccess>,
}

type Observer = dyn Fn(Duration, &StageTimings) + Send + Sync;

struct OnSuccess(Box<Observer>);

impl fmt::Debug for OnSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnSuccess")
    }
}

/// The number and the total times of the runs with one batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStats {
    /// Rows of each run.
    pub batch_size: usize,
    /// Runs.
    pub executions: u64,
    /// Gathering and copying in.
    pub compute_input: Duration,
    /// The model.
    pub compute_infer: Duration,
    /// Copying out.
    pub compute_output: Duration,
}

/// The values of [`ModelStats`] at one time. Times are totals over the answered requests unless they have a count of
/// their own; compute times exclude responses from the cache ([`StatsSnapshot::computed`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests answered, from the response cache or not.
    pub success: u64,
    /// Requests failed, by reason.
    pub failures: Failures,
    /// Rows inferred; none for an answer from the response cache.
    pub inferences: u64,
    /// Runs of the model.
    pub executions: u64,
    /// Time of answered requests in the server, first byte to answer.
    pub request: Duration,
    /// Time of failed requests in the server, 0 for those that were refused before the queue.
    pub failure: Duration,
    /// The part of `request` in the queue.
    pub queue: Duration,
    /// The part of `request` spent on gathering and copying in.
    pub compute_input: Duration,
    /// The part of `request` in the model's run.
    pub compute_infer: Duration,
    /// The part of `request` spent on copying out.
    pub compute_output: Duration,
    /// Requests that the response cache answered.
    pub cache_hits: u64,
    /// Time of these lookups.
    pub cache_hit: Duration,
    /// Requests that the response cache did not answer.
    pub cache_misses: u64,
    /// Time of these lookups and of inserting their responses.
    pub cache_miss: Duration,
    /// The runs of the model by batch size, ascending.
    pub batches: Vec<BatchStats>,
    /// When the last request was answered, in milliseconds since the epoch; 0 if none was.
    pub last_inference_ms: u64,
}

fn add(counter: &AtomicU64, duration: Duration) {
    counter.fetch_add(duration.as_nanos() as u64, Relaxed);
}

impl ModelStats {
    /// A request was answered, `elapsed` after its first byte.
    pub fn succeeded(&self, elapsed: Duration, timings: &StageTimings) {
        self.success.fetch_add(1, Relaxed);
        add(&self.request_ns, elapsed);
        add(&self.queue_ns, timings[Stage::Queue]);
        add(&self.compute_input_ns, timings[Stage::Gather] + timings[Stage::CopyIn]);
        add(&self.compute_infer_ns, timings[Stage::Infer]);
        add(&self.compute_output_ns, timings[Stage::CopyOut]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms.store(now.as_millis() as u64, Relaxed);
        if let Some(OnSuccess(observe)) = self.on_success.get() {
            observe(elapsed, timings);
        }
    }

    /// Calls `observe` for each request that is answered from now on, with the time since its first byte and its stage
    /// times. It must be short. Only the first call of this method has an effect.
    pub fn on_success(&self, observe: impl Fn(Duration, &StageTimings) + Send + Sync + 'static) {
        let _ = self.on_success.set(OnSuccess(Box::new(observe)));
    }

    /// A request failed, `elapsed` after its first byte.
    pub fn failed(&self, reason: impl Into<FailureReason>, elapsed: Duration) {
        self.failures[reason.into() as usize].fetch_add(1, Relaxed);
        add(&self.failure_ns, elapsed);
    }

    /// The model ran once on a batch of `rows` rows, which took `gather` to put together.
    pub fn executed(&self, rows: usize, gather: Duration, times: &RunTimings) {
        self.executions.fetch_add(1, Relaxed);
        self.inferences.fetch_add(rows as u64, Relaxed);
        let mut batches = self.batches.lock();
        let batch = batches.entry(rows).or_insert_with(|| BatchStats { batch_size: rows, ..BatchStats::default() });
        batch.executions += 1;
        batch.compute_input += gather + times.copy_in;
        batch.compute_infer += times.infer;
        batch.compute_output += times.copy_out;
    }

    /// The response cache had a response; the lookup took `lookup`.
    pub fn cache_hit(&self, lookup: Duration) {
        self.cache_hits.fetch_add(1, Relaxed);
        add(&self.cache_hit_ns, lookup);
    }

    /// The response cache had no response; the lookup and inserting the model's response took `spent`.
    pub fn cache_miss(&self, spent: Duration) {
        self.cache_misses.fetch_add(1, Relaxed);
        add(&self.cache_miss_ns, spent);
    }

    /// Reads the counters.
    pub fn snapshot(&self) -> StatsSnapshot {
        let duration = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        StatsSnapshot {
            success: self.success.load(Relaxed),
            failures: Failures(FailureReason::ALL.map(|reason| self.failures[reason as usize].load(Relaxed))),
            inferences: self.inferences.load(Relaxed),
            executions: self.executions.load(Relaxed),
            request: duration(&self.request_ns),
            failure: duration(&self.failure_ns),
            queue: duration(&self.queue_ns),
            compute_input: duration(&self.compute_input_ns),
            compute_infer: duration(&self.compute_infer_ns),
            compute_output: duration(&self.compute_output_ns),
            cache_hits: self.cache_hits.load(Relaxed),
            cache_hit: duration(&self.cache_hit_ns),
            cache_misses: self.cache_misses.load(Relaxed),
            cache_miss: duration(&self.cache_miss_ns),
            batches: self.batches.lock().values().copied().collect(),
            last_inference_ms: self.last_inference_ms.load(Relaxed),
        }
    }
}

impl StatsSnapshot {
    /// Requests that the model answered; the compute times are theirs.
    pub fn computed(&self) -> u64 {
        self.success.saturating_sub(self.cache_hits)
    }
}
