//! A model in service: its instances or steps, its counters and its cache.

mod instances;
mod pace;
mod steps;
mod warmup;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
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
    runner: Runner,
    placement: Placement,
    load_time: Duration,
    warmed_batch_sizes: Vec<usize>,
    gpu_memory: Vec<GpuMemory>,
    cache: Option<Arc<Cache>>,
    /// Unique to each load of a model: part of the keys in the cache of its responses.
    generation: u64,
}

/// The memory of a GPU that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// The GPU's number.
    pub gpu: usize,
    /// Bytes.
    pub bytes: u64,
}

/// What answers a model's requests.
enum Runner {
    /// Instances, each with its thread, and one queue.
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
    /// It has no instance.
    #[error("model '{0}' has no instance")]
    NoInstance(String),
    /// Its warm-up failed.
    #[error("model '{model}' failed its warm-up: {error}")]
    WarmUp {
        /// The model.
        model: String,
        /// What failed.
        error: WarmUpError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread for model '{model}': {error}")]
    Thread {
        /// The model.
        model: String,
        /// The system's error.
        error: std::io::Error,
    },
}

impl StartError {
    /// The error of a warm-up that ended with [`ErrorKind::DeviceLost`].
    pub fn device_lost(&self) -> Option<&InferError> {
        match self {
            Self::WarmUp { error: WarmUpError::Sample { error, .. } | WarmUpError::Run(error), .. } => {
                (error.kind() == ErrorKind::DeviceLost).then_some(error)
            }
            Self::NoInstance(_) | Self::Thread { .. } => None,
        }
    }
}

impl Model {
    /// Starts a thread for each instance and warms the instance on it, one after the other: with `samples`, and on zeros
    /// with each batch size that the model announces. Blocks until all are warm. `load_time` is the time of loading so
    /// far. A model that refuses the zeros serves all the same, with one warning.
    ///
    /// # Errors
    /// When a thread cannot be started, a sample fails, a device is lost, or the model is not as configured; no thread is
    /// left running then.
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
            on_device_lost: OnceLock::new(),
        });
        // From here on, dropping this ends the threads.
        let started_instances = Instances { shared: Arc::clone(&shared), threads: Mutex::default() };
        let mut warm_up =
            instances::WarmUp { samples: samples.into(), batch_sizes: spec.warmup_batch_sizes().to_vec() };
        for index in 0..count {
            let (shared, with) = (Arc::clone(&shared), warm_up.clone());
            let (warmed, outcome) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("{}/{index}", shared.spec.name()))
                .spawn(move || instances::serve(&shared, index, with, warmed))
                .map_err(|error| StartError::Thread { model: spec.name().to_owned(), error })?;
            started_instances.threads.lock().push(thread);
            match outcome.recv().unwrap_or(Err(InferError::InstanceLost.into())) {
                // What this instance refused, the others are spared.
                Ok(batch_sizes) => warm_up.batch_sizes = batch_sizes,
                Err(error) => {
                    started_instances.end();
                    return Err(StartError::WarmUp { model: spec.name().to_owned(), error });
                }
            }
        }
        Ok(Self {
            spec,
            stats,
            pool,
            runner: Runner::Instances(started_instances),
            placement,
            load_time: load_time + started.elapsed(),
            warmed_batch_sizes: warm_up.batch_sizes,
            gpu_memory: Vec::new(),
            cache: None,
            generation: next_generation(),
        })
    }

    /// A model that calls other models. `load_time` is the time of loading.
    pub fn compose(
        spec: ModelSpec,
        composite: Box<dyn Composite>,
        placement: Placement,
        pool: BufferPool,
        load_time: Duration,
    ) -> Self {
        Self {
            spec: Arc::new(spec),
            stats: Arc::default(),
            pool,
            runner: Runner::Steps(Steps::new(composite)),
            placement,
            load_time,
            warmed_batch_sizes: Vec::new(),
            gpu_memory: Vec::new(),
            cache: None,
            generation: next_generation(),
        }
    }

    /// Answers requests from this cache, and keeps responses there.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// States how much memory of GPUs it took to load it.
    #[must_use]
    pub fn with_gpu_memory(mut self, gpu_memory: Vec<GpuMemory>) -> Self {
        self.gpu_memory = gpu_memory;
        self
    }

    /// Its specification.
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

    /// The batch sizes that ran on zeros before it served.
    pub fn warmed_batch_sizes(&self) -> &[usize] {
        &self.warmed_batch_sizes
    }

    /// How much memory of GPUs it took to load it, as far as this is known.
    pub fn gpu_memory(&self) -> &[GpuMemory] {
        &self.gpu_memory
    }

    /// Reads its counters.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Calls `observe` for each answered request ([`ModelStats::on_success`]).
    pub fn on_success(&self, observe: impl Fn(Duration, &StageTimings) + Send + Sync + 'static) {
        self.stats.on_success(observe);
    }

    /// Calls `observe` with each error of the kind [`ErrorKind::DeviceLost`] that its runs end with. Only the first call of
    /// this method has an effect; a model that calls other models has no runs of its own.
    pub fn on_device_lost(&self, observe: impl Fn(&InferError) + Send + Sync + 'static) {
        if let Runner::Instances(instances) = &self.runner {
            let _ = instances.shared.on_device_lost.set(Box::new(observe));
        }
    }

    /// Whether it has a response cache.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Number of requests that wait.
    pub fn pending_requests(&self) -> usize {
        match &self.runner {
            Runner::Instances(instances) => instances.shared.queue.len(),
            Runner::Steps(_) => 0,
        }
    }

    /// Number of requests that run.
    pub fn running_requests(&self) -> usize {
        match &self.runner {
            Runner::Instances(instances) => instances.shared.queue.running(),
            Runner::Steps(steps) => steps.running(),
        }
    }

    /// Whether it calls other models.
    pub fn is_composite(&self) -> bool {
        matches!(self.runner, Runner::Steps(_))
    }

    /// Whether the models that it calls, if any, have not changed since it was made ([`Composite::is_current`]).
    pub fn is_current(&self) -> bool {
        match &self.runner {
            Runner::Instances(_) => true,
            Runner::Steps(steps) => steps.is_current(),
        }
    }

    /// Adds its generation, which is unique to each load of a model, and those of all models that it calls. Returns
    /// whether all of them are in service.
    pub fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        // What is known already has been followed: models may call each other in a circle.
        if !found.insert(self.generation) {
            return true;
        }
        match &self.runner {
            Runner::Instances(_) => true,
            Runner::Steps(steps) => steps.generations(found),
        }
    }

    /// The models that answer a request at this time; `None` if one is not in service.
    fn answering(&self) -> Option<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        self.generations(&mut found).then_some(found)
    }

    /// The pool for its batches and its clients' bodies.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Counts a request that failed before it reached the queue.
    pub fn refused(&self, kind: ErrorKind) {
        self.stats.failed(kind, Duration::ZERO);
    }

    /// Runs a request. Dropping the future cancels the request: it leaves the queue at once, or, if it runs already,
    /// its run is stopped unless other requests of the batch remain.
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

    /// Answers from the cache, or runs the request and keeps the response there.
    async fn infer_cached(&self, cache: &Cache, mut request: InferRequest) -> Result<InferResponse, InferError> {
        let Some(models) = self.answering() else { return self.run(request).await };
        let stats = &self.stats;
        let started = request.started;
        let refused = |error: &InferError| stats.failed(error.kind(), started.elapsed());
        let lookup_started = std::time::Instant::now();
        let key = Key::new(&models, &request);
        let found = cache.get(&key);
        let lookup = lookup_started.elapsed();
        if let Some(outputs) = found {
            let mut timings = request.timings;
            timings[Stage::Queue] = lookup;
            let answer = Ok(InferResponse { outputs, timings });
            let count = || {
                stats.cache_hit(lookup);
                stats.succeeded(request.started.elapsed(), &request.timings);
            };
            return match &self.runner {
                Runner::Instances(instances) => {
                    let in_order = instances.shared.queue.answered(answer).inspect_err(refused)?;
                    count();
                    in_order.await.unwrap_or(Err(InferError::InstanceLost))
                }
                Runner::Steps(_) => {
                    count();
                    answer
                }
            };
        }
        // A response for later requests must not be in memory that this client can write to.
        request.output_memory.clear();
        let mut outcome = self.run(request).await;
        let answered = std::time::Instant::now();
        if let Ok(response) = &mut outcome {
            // If a model was loaded anew meanwhile, the response may be of either.
            if self.answering() == Some(models) {
                cache.insert(key, &response.outputs);
            }
            response.timings[Stage::Queue] += lookup;
        }
        stats.cache_miss(lookup + answered.elapsed());
        outcome
    }

    async fn run(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        match &self.runner {
            Runner::Instances(instances) => instances.shared.infer(request).await,
            Runner::Steps(steps) => steps.infer(&self.stats, request).await,
        }
    }

    /// Refuses new requests, answers the accepted ones, and ends the threads. Blocks until they have ended.
    pub fn drain(&self) {
        match &self.runner {
            Runner::Instances(instances) => instances.end(),
            Runner::Steps(steps) => {
                steps.close();
                steps.wait_idle();
            }
        }
    }

    /// Blocks until a model that calls other models has no open request; returns at once for others.
    pub(crate) fn wait_for_steps(&self) {
        if let Runner::Steps(steps) = &self.runner {
            steps.wait_idle();
        }
    }
}

/// A number that no other load of a model in this process has.
fn next_generation() -> u64 {
    static GENERATIONS: AtomicU64 = AtomicU64::new(0);
    GENERATIONS.fetch_add(1, Relaxed)
}

impl Instances {
    /// Answers the waiting requests and ends the threads. Blocks until they have ended.
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
