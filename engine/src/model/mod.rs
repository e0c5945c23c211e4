//! A model in service: its queue, its instances' threads, its counters.

mod instances;
mod pace;
mod steps;
mod warmup;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;

pub use self::warmup::{Sample, WarmUpError};
use self::{pace::Pace, steps::Steps};
use crate::{
    backend::{Composite, Instance, Placement},
    batch::queue::Queue,
    buffer::BufferPool,
    cache::{Cache, Key},
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, Stage, StageTimings},
    spec::ModelSpec,
    stats::{ModelStats, StatsSnapshot},
};

/// A model in service. Dropping it closes its queue; [`drain`](Self::drain) also waits for its threads.
pub struct Model {
    spec: Arc<ModelSpec>,
    stats: Arc<ModelStats>,
    pool: BufferPool,
    runs: Runs,
    placement: Placement,
    load_time: Duration,
    cache: Option<Arc<Cache>>,
    /// Tells this model's answers in the cache from those of any other that was ever loaded.
    generation: u64,
}

/// What answers a model's requests.
enum Runs {
    /// Instances, each with its thread, behind one queue.
    Instances(Instances),
    /// Other models.
    Steps(Steps),
}

struct Instances {
    shared: Arc<instances::Shared>,
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
        /// What failed.
        error: WarmUpError,
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
    /// Starts a thread for each instance, which warms it, one after the other: on `samples`, and on each batch size
    /// that the model announces. Blocks until all are warm. `load_time` is what loading took so far.
    ///
    /// # Errors
    /// When a warm-up run fails; nothing is left running then.
    pub fn start(
        spec: ModelSpec,
        instances: Vec<Box<dyn Instance>>,
        samples: Vec<Sample>,
        pool: BufferPool,
        load_time: Duration,
    ) -> Result<Self, StartError> {
        let started = std::time::Instant::now();
        let first = instances.first().ok_or_else(|| StartError::NoInstance(spec.name().to_owned()))?;
        let placement = first.placement();
        let (spec, stats) = (Arc::new(spec), Arc::<ModelStats>::default());
        let count = instances.len();
        let shared = Arc::new(instances::Shared {
            queue: Queue::new(spec.policy().clone()),
            stats: Arc::clone(&stats),
            pool: pool.clone(),
            spec: Arc::clone(&spec),
            pace: instances.iter().all(|instance| instance.runs_on_any_thread()).then(Pace::default),
            instances: instances.into_iter().map(|instance| Mutex::new(Some(instance))).collect(),
        });
        // Whatever happens from here on, dropping them ends the threads.
        let started_instances = Instances { shared: Arc::clone(&shared), threads: Mutex::default() };
        let samples: Arc<[Sample]> = samples.into();
        for index in 0..count {
            let (shared, samples) = (Arc::clone(&shared), Arc::clone(&samples));
            let (warmed, outcome) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("{}/{index}", shared.spec.name()))
                .spawn(move || instances::serve(&shared, index, samples, warmed))
                .map_err(|error| StartError::Thread { model: spec.name().to_owned(), error })?;
            started_instances.threads.lock().push(thread);
            if let Err(error) = outcome.recv().unwrap_or(Err(InferError::InstanceLost.into())) {
                started_instances.end();
                return Err(StartError::WarmUp { model: spec.name().to_owned(), error });
            }
        }
        let runs = Runs::Instances(started_instances);
        Ok(Self::new(spec, stats, pool, runs, placement, load_time + started.elapsed()))
    }

    /// A model made of models. `load_time` is what loading took.
    pub fn compose(
        spec: ModelSpec,
        composite: Box<dyn Composite>,
        placement: Placement,
        pool: BufferPool,
        load_time: Duration,
    ) -> Self {
        let runs = Runs::Steps(Steps::new(composite));
        Self::new(Arc::new(spec), Arc::default(), pool, runs, placement, load_time)
    }

    fn new(
        spec: Arc<ModelSpec>,
        stats: Arc<ModelStats>,
        pool: BufferPool,
        runs: Runs,
        placement: Placement,
        load_time: Duration,
    ) -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(0);
        let generation = GENERATIONS.fetch_add(1, Relaxed);
        Self { spec, stats, pool, runs, placement, load_time, cache: None, generation }
    }

    /// Answers from this cache what it has, and keeps there what it answers.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// What the model is.
    pub fn spec(&self) -> &Arc<ModelSpec> {
        &self.spec
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
        self.stats.snapshot()
    }

    /// Has `tell` told of each answered request ([`ModelStats::on_success`]).
    pub fn on_success(&self, tell: impl Fn(Duration, &StageTimings) + Send + Sync + 'static) {
        self.stats.on_success(tell);
    }

    /// Whether answers are kept for equal requests.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Requests that wait.
    pub fn pending_requests(&self) -> usize {
        match &self.runs {
            Runs::Instances(instances) => instances.shared.queue.len(),
            Runs::Steps(_) => 0,
        }
    }

    /// Requests that run.
    pub fn running_requests(&self) -> usize {
        match &self.runs {
            Runs::Instances(instances) => instances.shared.queue.running(),
            Runs::Steps(steps) => steps.running(),
        }
    }

    /// Whether it is made of other models.
    pub fn is_composite(&self) -> bool {
        matches!(self.runs, Runs::Steps(_))
    }

    /// Whether the models that it is made of, if it is, are what they were when it was made ([`Composite::is_current`]).
    pub fn is_current(&self) -> bool {
        match &self.runs {
            Runs::Instances(_) => true,
            Runs::Steps(steps) => steps.is_current(),
        }
    }

    /// The pool that its batches, and its clients' bodies, are kept in.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Counts a request that failed before it reached the queue.
    pub fn refused(&self, kind: ErrorKind) {
        self.stats.failed(kind, Duration::ZERO);
    }

    /// Runs a request. Dropping the future cancels it: it leaves the queue at once, or, if it is running
    /// already, its run is stopped unless other requests of the batch are waited for.
    ///
    /// # Errors
    /// [`InferError::QueueFull`], [`InferError::ShuttingDown`], [`InferError::DeadlineExceeded`], or what the backend
    /// reports.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        match &self.cache {
            Some(cache) => self.infer_cached(cache, request).await,
            None => self.run(request).await,
        }
    }

    /// From the cache, without queueing, or by a run whose answer the cache keeps.
    async fn infer_cached(&self, cache: &Cache, mut request: InferRequest) -> Result<InferResponse, InferError> {
        let stats = &self.stats;
        let started = request.started;
        let refused = |error: &InferError| stats.failed(error.kind(), started.elapsed());
        let asked = std::time::Instant::now();
        let key = Key::new(self.generation, &request);
        let found = cache.get(&key);
        let lookup = asked.elapsed();
        if let Some(outputs) = found {
            let mut timings = request.timings;
            timings[Stage::Queue] = lookup;
            let answer = Ok(InferResponse { outputs, timings });
            let count = || {
                stats.cache_hit(lookup);
                stats.succeeded(request.started.elapsed(), &request.timings);
            };
            return match &self.runs {
                Runs::Instances(instances) => {
                    let in_turn = instances.shared.queue.answered(answer).inspect_err(refused)?;
                    count();
                    in_turn.await.unwrap_or(Err(InferError::InstanceLost))
                }
                Runs::Steps(_) => {
                    count();
                    answer
                }
            };
        }
        // What is kept for others must not come out of memory that this client writes to.
        request.output_memory.clear();
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
        match &self.runs {
            Runs::Instances(instances) => instances.shared.infer(request).await,
            Runs::Steps(steps) => steps.infer(&self.stats, request).await,
        }
    }

    /// Refuses new requests, answers those that it has, and ends the threads. Blocks until they have ended.
    pub fn drain(&self) {
        match &self.runs {
            Runs::Instances(instances) => instances.end(),
            Runs::Steps(steps) => {
                steps.close();
                steps.wait_idle();
            }
        }
    }

    /// Waits until a model made of models has no request open; other models it leaves alone. Blocks.
    pub(crate) fn finish_steps(&self) {
        if let Runs::Steps(steps) = &self.runs {
            steps.wait_idle();
        }
    }
}

impl Instances {
    /// Answers what waits, and ends the threads. Blocks until they have ended.
    fn end(&self) {
        self.shared.queue.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}
