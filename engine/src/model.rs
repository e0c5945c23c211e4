//! A model in service: its queue, its instances' threads, its counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::{
    backend::{Instance, Placement},
    batch::queue::Queue,
    buffer::BufferPool,
    cache::{Cache, Key},
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, Stage, StageTimings},
    spec::ModelSpec,
    stats::{ModelStats, StatsSnapshot},
    worker,
};

/// A model in service. Dropping it closes its queue; [`drain`](Self::drain) also waits for its threads.
pub struct Model {
    shared: Arc<worker::Shared>,
    placement: Placement,
    load_time: Duration,
    cache: Option<Arc<Cache>>,
    /// Tells this model's answers in the cache from those of any other that was ever loaded.
    generation: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A model that could not be put into service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to run on.
    #[error("model '{0}' has no instance")]
    NoInstance(String),
    /// A warm-up run failed.
    #[error("model '{model}' failed its warm-up: {error}")]
    WarmUp {
        /// The model.
        model: String,
        /// What the backend said.
        error: InferError,
    },
    /// The system has no thread for an instance.
    #[error("cannot start a thread for model '{model}': {error}")]
    Thread {
        /// The model.
        model: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Model {
    /// Warms the instances, one after the other, and starts a thread for each. Blocks until all are
    /// warm. `load_time` is what loading took so far.
    ///
    /// # Errors
    /// When a warm-up run fails; nothing is left running then.
    pub fn start(
        spec: ModelSpec,
        mut instances: Vec<Box<dyn Instance>>,
        pool: BufferPool,
        load_time: Duration,
    ) -> Result<Self, StartError> {
        let started = std::time::Instant::now();
        let name = || spec.name().to_owned();
        let placement = instances.first().ok_or_else(|| StartError::NoInstance(name()))?.placement();
        for instance in &mut instances {
            worker::warm_up(&spec, instance.as_mut()).map_err(|error| StartError::WarmUp { model: name(), error })?;
        }
        let shared = Arc::new(worker::Shared {
            queue: Queue::new(spec.policy().clone()),
            stats: ModelStats::default(),
            pool,
            spec: Arc::new(spec),
        });
        static GENERATIONS: AtomicU64 = AtomicU64::new(0);
        let model = Self {
            shared,
            placement,
            load_time: load_time + started.elapsed(),
            cache: None,
            generation: GENERATIONS.fetch_add(1, Relaxed),
            threads: Mutex::default(),
        };
        for (index, mut instance) in instances.into_iter().enumerate() {
            let shared = Arc::clone(&model.shared);
            let thread = std::thread::Builder::new()
                .name(format!("{}/{index}", shared.spec.name()))
                .spawn(move || worker::serve(&shared, instance.as_mut()))
                .map_err(|error| StartError::Thread { model: model.spec().name().to_owned(), error })?;
            model.threads.lock().push(thread);
        }
        Ok(model)
    }

    /// Answers from this cache what it has, and keeps there what it answers.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// What the model is.
    pub fn spec(&self) -> &Arc<ModelSpec> {
        &self.shared.spec
    }

    /// Where it really runs.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How long it took to load and warm.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Reads its counters.
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// Has `tell` told of each answered request ([`ModelStats::on_success`]).
    pub fn on_success(&self, tell: impl Fn(Duration, &StageTimings) + Send + Sync + 'static) {
        self.shared.stats.on_success(tell);
    }

    /// Whether answers are kept for equal requests.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Requests that wait.
    pub fn pending_requests(&self) -> usize {
        self.shared.queue.len()
    }

    /// Requests that run.
    pub fn running_requests(&self) -> usize {
        self.shared.queue.running()
    }

    /// The pool that its batches, and its clients' bodies, are kept in.
    pub fn pool(&self) -> &BufferPool {
        &self.shared.pool
    }

    /// Counts a request that failed before it reached the queue.
    pub fn refused(&self, kind: ErrorKind) {
        self.shared.stats.failed(kind, Duration::ZERO);
    }

    /// Runs a request. Dropping the future cancels it: it leaves the queue at once, or, if it is running
    /// already, its run is stopped unless other requests of the batch are waited for.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`], [`ErrorKind::Unavailable`], [`ErrorKind::DeadlineExceeded`], or what the
    /// backend reports.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        match &self.cache {
            Some(cache) => self.infer_cached(cache, request).await,
            None => self.run(request).await,
        }
    }

    /// From the cache, without queueing, or by a run whose answer the cache keeps.
    async fn infer_cached(&self, cache: &Cache, request: InferRequest) -> Result<InferResponse, InferError> {
        let stats = &self.shared.stats;
        let started = request.started;
        let refused = |error: &InferError| stats.failed(error.kind(), started.elapsed());
        let asked = std::time::Instant::now();
        let key = Key::new(self.generation, &request);
        let found = cache.get(&key);
        let lookup = asked.elapsed();
        if let Some(outputs) = found {
            let mut timings = request.timings;
            timings[Stage::Queue] = lookup;
            let answer = self.shared.queue.answered(Ok(InferResponse { outputs, timings })).inspect_err(refused)?;
            stats.cache_hit(lookup);
            stats.succeeded(request.started.elapsed(), &request.timings);
            return answer.await.unwrap_or_else(|_| Err(lost()));
        }
        let mut outcome = self.run(request).await;
        let answered = std::time::Instant::now();
        if let Ok(response) = &mut outcome {
            cache.insert(key, &response.outputs);
            response.timings[Stage::Queue] += lookup;
        }
        stats.cache_miss(lookup + answered.elapsed());
        outcome
    }

    async fn run(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let shared = &*self.shared;
        let started = request.started;
        let place =
            shared.queue.push(request).inspect_err(|error| shared.stats.failed(error.kind(), started.elapsed()))?;
        let mut leave = LeaveOnDrop { shared, started, ticket: Some(place.ticket) };
        let mut outcome = place.outcome;
        let ended = match place.rejected_at {
            None => outcome.await,
            Some(at) => match timeout_at(Instant::from_std(at), &mut outcome).await {
                Ok(ended) => ended,
                Err(_) if shared.queue.remove(place.ticket).is_some() => {
                    leave.ticket = None;
                    let error = worker::timed_out();
                    shared.stats.failed(error.kind(), started.elapsed());
                    return Err(error);
                }
                // It is running: the deadline is about waiting.
                Err(_) => outcome.await,
            },
        };
        leave.ticket = None;
        ended.unwrap_or_else(|_| Err(lost()))
    }

    /// Refuses new requests, answers those that wait, and ends the threads. Blocks until they have ended.
    pub fn drain(&self) {
        self.shared.queue.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

fn lost() -> InferError {
    InferError::internal("the model's instance ended without an answer")
}

/// Gives a request up when nobody waits for it any more.
struct LeaveOnDrop<'a> {
    shared: &'a worker::Shared,
    started: std::time::Instant,
    ticket: Option<u64>,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && self.shared.queue.give_up(ticket).is_some()
        {
            self.shared.stats.failed(ErrorKind::Cancelled, self.started.elapsed());
        }
    }
}
