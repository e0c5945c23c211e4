//! A service: models, where they run, and what its transports share.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::Context as _;
use parking_lot::RwLock;
use quintet_engine::{BufferPool, Model, Registry, VersionState};
use quintet_proto::inference::ModelConfig;

use crate::{
    backend::onnx::{self, LoadOptions},
    metrics::ServiceMetrics,
    repository::{self, ModelSource},
    settings::ServiceName,
};

/// Limits on what one request may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub max_input_bytes: usize,
    /// Pixels of an image.
    pub max_image_pixels: u64,
    /// Images of a request.
    pub max_images: usize,
}

/// One service of the suite.
pub struct Service {
    name: ServiceName,
    registry: Registry,
    configs: RwLock<HashMap<(String, u64), Arc<ModelConfig>>>,
    metrics: ServiceMetrics,
    pool: BufferPool,
    limits: Limits,
    draining: AtomicBool,
}

impl Service {
    /// A service without models.
    pub fn new(name: ServiceName, pool: BufferPool, limits: Limits) -> Self {
        Self {
            name,
            registry: Registry::default(),
            configs: RwLock::default(),
            metrics: ServiceMetrics::new(),
            pool,
            limits,
            draining: AtomicBool::new(false),
        }
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

    /// Whether it takes requests: every model is loaded and warm, and it is not shutting down.
    pub fn is_ready(&self) -> bool {
        self.registry.is_ready() && !self.draining.load(Relaxed)
    }

    /// The configuration in force of a model.
    pub fn config(&self, model: &Model) -> Option<Arc<ModelConfig>> {
        self.configs.read().get(&(model.spec().name().to_owned(), model.spec().version())).cloned()
    }

    /// Its metrics in Prometheus' text format.
    pub fn render_metrics(&self) -> String {
        self.metrics.render(&self.registry)
    }

    /// Loads and warms the versions of a model that the repositories serve; `options` say on what they
    /// run. Blocks.
    ///
    /// # Errors
    /// When the model cannot be read, loaded or warmed; the registry keeps the reason.
    pub fn load(&self, roots: &[PathBuf], name: &str, options: &LoadOptions) -> anyhow::Result<()> {
        for source in repository::find(roots, name)? {
            self.registry.set(&source.name, source.version, VersionState::Loading);
            match self.start(&source, options) {
                Ok((model, config)) => self.put(model, config),
                Err(error) => {
                    let reason = format!("{error:#}");
                    self.registry.set(&source.name, source.version, VersionState::Failed(reason));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Puts a model into service, with the configuration that it was made from.
    pub fn put(&self, model: Model, config: ModelConfig) {
        let (name, version) = (model.spec().name().to_owned(), model.spec().version());
        self.metrics.register(&model);
        self.configs.write().insert((name.clone(), version), Arc::new(config));
        self.registry.set(&name, version, VersionState::Ready(Arc::new(model)));
    }

    fn start(&self, source: &ModelSource, options: &LoadOptions) -> anyhow::Result<(Model, ModelConfig)> {
        let started = Instant::now();
        let context = || format!("service {}: model '{}' version {}", self.name.as_str(), source.name, source.version);
        let first = onnx::load(&source.model_file, options).with_context(context)?;
        let details = repository::complete(source, &first.inputs, &first.outputs).with_context(context)?;
        if !details.without_effect.is_empty() {
            tracing::warn!(
                service = self.name.as_str(),
                model = source.name,
                fields = details.without_effect.join(", "),
                "fields of config.pbtxt that have no effect here"
            );
        }
        let inputs: Vec<_> = details.spec.inputs().iter().map(|tensor| tensor.name.clone()).collect();
        let outputs: Vec<_> = details.spec.outputs().iter().map(|tensor| tensor.name.clone()).collect();
        let mut instances = vec![first.into_instance(inputs.clone(), outputs.clone())];
        while instances.len() < details.spec.instances() {
            let next = onnx::load(&source.model_file, options).with_context(context)?;
            instances.push(next.into_instance(inputs.clone(), outputs.clone()));
        }
        let model =
            Model::start(details.spec, instances, self.pool.clone(), started.elapsed()).with_context(context)?;
        tracing::info!(
            service = self.name.as_str(),
            model = source.name,
            version = source.version,
            runs_on = %model.placement(),
            warmed = ?model.spec().warmup_batch_sizes(),
            seconds = format!("{:.1}", started.elapsed().as_secs_f64()),
            "model is ready"
        );
        Ok((model, details.config))
    }

    /// Says that it is not ready any more; requests are still served.
    pub fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Answers what was accepted and ends the instances. Blocks.
    pub fn drain(&self) {
        self.begin_drain();
        self.registry.drain();
    }
}
