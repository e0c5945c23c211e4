//! A service: models, where they run, and what its transports share.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use quintet_engine::{BufferPool, Model, Registry, VersionState};
use quintet_proto::inference::ModelConfig;

use crate::{
    kserve::{shared_memory::SharedMemory, trace::Traces},
    observe::{
        device_metrics,
        metrics::{MetricsOptions, ServiceMetrics},
    },
    process::settings::ServiceName,
    repository::Repository,
};

/// How large a request may be, and the flag that says so.
#[derive(Clone, Copy, Debug)]
pub struct InputLimit {
    /// Bytes.
    pub bytes: usize,
    /// The flag, for messages.
    pub flag: &'static str,
}

/// `4000000 bytes (--max-input-bytes)`
impl fmt::Display for InputLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ({})", self.bytes, self.flag)
    }
}

/// Limits on what one request may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an HTTP body.
    pub max_input: InputLimit,
    /// Pixels of an image.
    pub max_image_pixels: u64,
    /// Images of a request.
    pub max_images: usize,
}

/// A loaded version of a model with its configuration in force, or why there is none.
pub type LoadOutcome = Result<(Model, ModelConfig), String>;

/// One service of the suite.
pub struct Service {
    name: ServiceName,
    registry: Registry,
    configs: RwLock<HashMap<(String, u64), Arc<ModelConfig>>>,
    metrics: ServiceMetrics,
    pool: BufferPool,
    limits: Limits,
    shared_memory: SharedMemory,
    traces: Traces,
    draining: AtomicBool,
    repository: OnceLock<Arc<Repository>>,
}

impl Service {
    /// A service without models.
    pub fn new(name: ServiceName, pool: BufferPool, limits: Limits) -> Self {
        Self {
            name,
            registry: Registry::default(),
            configs: RwLock::default(),
            metrics: ServiceMetrics::default(),
            pool,
            limits,
            shared_memory: SharedMemory::new(None),
            traces: Traces::none(),
            draining: AtomicBool::new(false),
            repository: OnceLock::new(),
        }
    }

    /// With these metrics, before the first model.
    #[must_use]
    pub fn with_metrics(self, options: MetricsOptions) -> Self {
        Self { metrics: ServiceMetrics::new(options), ..self }
    }

    /// Lets clients register regions of shared memory.
    #[must_use]
    pub fn with_shared_memory(self, shared_memory: SharedMemory) -> Self {
        Self { shared_memory, ..self }
    }

    /// Lets clients trace requests.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Traces of requests.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Regions of shared memory.
    pub fn shared_memory(&self) -> &SharedMemory {
        &self.shared_memory
    }

    /// Its name.
    pub fn name(&self) -> ServiceName {
        self.name
    }

    /// Its models.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The pool that request bodies are received into.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Where its models come from; `None` until it is known, or where they were put in by hand.
    pub fn repository(&self) -> Option<&Arc<Repository>> {
        self.repository.get()
    }

    /// Says where its models come from. The first to say so is right.
    pub fn attach(&self, repository: Arc<Repository>) {
        let _ = self.repository.set(repository);
    }

    /// Whether it takes requests: every model is loaded and warm (unless its repository says that one may
    /// fail), and it is not shutting down.
    pub fn is_ready(&self) -> bool {
        let loaded = match self.repository.get() {
            Some(repository) if !repository.strict_readiness() => repository.has_started(),
            Some(repository) => repository.has_started() && self.registry.are_all_ready(),
            None => self.registry.is_ready(),
        };
        loaded && !self.draining.load(Relaxed)
    }

    /// The configuration in force of a model.
    pub fn config(&self, model: &Model) -> Option<Arc<ModelConfig>> {
        self.configs.read().get(&(model.spec().name().to_owned(), model.spec().version())).cloned()
    }

    /// The configurations in force of all versions of a model.
    pub fn configs(&self, name: &str) -> Vec<Arc<ModelConfig>> {
        self.configs
            .read()
            .iter()
            .filter(|((model, _), _)| model == name)
            .map(|(_, config)| Arc::clone(config))
            .collect()
    }

    /// Its metrics in Prometheus' text format, and the machine's.
    pub fn render_metrics(&self) -> String {
        self.metrics.render(&self.registry) + &device_metrics::render()
    }

    /// Puts a model into service, with the configuration that it was made from.
    pub fn put(&self, model: Model, config: ModelConfig) {
        let (name, version) = (model.spec().name().to_owned(), model.spec().version());
        self.metrics.register(&model, &config);
        self.configs.write().insert((name.clone(), version), Arc::new(config));
        self.registry.set(&name, version, VersionState::Ready(Arc::new(model)));
    }

    /// Puts the versions of a model into service at once, in the place of those that there were; of one
    /// that could not be loaded, the reason. Returns the models that were replaced.
    pub fn replace(&self, name: &str, versions: Vec<(u64, LoadOutcome)>) -> Vec<Arc<Model>> {
        let mut states = BTreeMap::new();
        let mut configs = self.configs.write();
        configs.retain(|(model, _), _| model != name);
        self.metrics.forget(name);
        for (version, loaded) in versions {
            let state = match loaded {
                Ok((model, config)) => {
                    self.metrics.register(&model, &config);
                    configs.insert((name.to_owned(), version), Arc::new(config));
                    VersionState::Ready(Arc::new(model))
                }
                Err(reason) => VersionState::Failed(reason),
            };
            states.insert(version, state);
        }
        self.registry.replace(name, states)
    }

    /// Takes all versions of a model out of service, if there are any. Returns them.
    pub fn unload(&self, name: &str) -> Vec<Arc<Model>> {
        let versions = self.registry.index().into_iter().filter(|(model, ..)| model == name);
        let states: BTreeMap<_, _> = versions.map(|(_, version, _)| (version, VersionState::Unloaded)).collect();
        if states.is_empty() {
            return Vec::new();
        }
        self.configs.write().retain(|(model, _), _| model != name);
        self.metrics.forget(name);
        self.registry.replace(name, states)
    }

    /// Says that it is not ready any more; requests are still served.
    pub fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Answers what was accepted, ends the instances and has traces written. Blocks.
    pub fn drain(&self) {
        self.begin_drain();
        self.registry.drain();
        self.traces.flush();
    }
}
