//! The models in service with their configurations and metrics, and the limits of their requests.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::RwLock;
use quintet_engine::{BufferPool, InferError, Model, Placement, Registry, TensorSpec, VersionState};
use quintet_proto::inference::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::{
    backend::onnx::Provider,
    image_input::{Decoder, ImageInput},
    image_output::ImageOutput,
    observe::{
        device_metrics::DeviceMetrics,
        gpu_fault::GpuFault,
        memory_metrics,
        metrics::{AnswerTimes, ConnectionCounters, Format, MetricsOptions, ServiceMetrics},
    },
};

/// A service of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServiceName {
    /// Base64 JPEG over HTTP.
    Jpeg,
    /// KServe on ONNX Runtime's CUDA provider.
    Onnx,
    /// KServe on ONNX Runtime's TensorRT provider.
    Trt,
    /// Triton mode: KServe with the backend that each model's configuration names. Not part of the suite.
    #[value(skip)]
    #[serde(skip)]
    Triton,
}

impl ServiceName {
    /// The name in logs, labels and lanes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Onnx => "onnx",
            Self::Trt => "trt",
            Self::Triton => "triton",
        }
    }
}

/// The size limit of a request, and the flag that sets it.
#[derive(Clone, Copy, Debug)]
pub struct InputLimit {
    /// Bytes.
    pub bytes: usize,
    /// The flag, for error messages.
    pub flag: &'static str,
}

/// `4000000 bytes (--max-input-bytes)`
impl fmt::Display for InputLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ({})", self.bytes, self.flag)
    }
}

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an HTTP body.
    pub max_input: InputLimit,
    /// Pixels of an image.
    pub max_image_pixels: u64,
    /// Images of a request.
    pub max_images: usize,
}

/// A loaded version of a model with its configuration in force, or why it could not be loaded.
pub type LoadOutcome = Result<(Model, ModelConfig), String>;

/// The models of one service.
pub struct Catalog {
    name: ServiceName,
    registry: Registry,
    configs: RwLock<HashMap<(String, u64), Arc<ModelConfig>>>,
    metrics: ServiceMetrics,
    devices: DeviceMetrics,
    pool: BufferPool,
    decoder: Decoder,
    gpu_fault: GpuFault,
    limits: Limits,
}

impl Catalog {
    /// A catalog without models.
    pub fn new(name: ServiceName, pool: BufferPool, limits: Limits) -> Self {
        Self {
            name,
            registry: Registry::default(),
            configs: RwLock::default(),
            metrics: ServiceMetrics::default(),
            devices: DeviceMetrics::default(),
            pool,
            decoder: Decoder::default(),
            gpu_fault: GpuFault::default(),
            limits,
        }
    }

    /// The same catalog with these metrics. Call it before the first [`put`](Self::put).
    #[must_use]
    pub fn with_metrics(self, options: MetricsOptions) -> Self {
        Self { devices: DeviceMetrics::new(options.devices), metrics: ServiceMetrics::new(options), ..self }
    }

    /// The same catalog with this decoder of images.
    #[must_use]
    pub fn with_decoder(self, decoder: Decoder) -> Self {
        Self { decoder, ..self }
    }

    /// The same catalog with the value that the services of a process share. Call it before the first [`put`](Self::put).
    #[must_use]
    pub fn with_gpu_fault(self, gpu_fault: GpuFault) -> Self {
        Self { gpu_fault, ..self }
    }

    /// The service of these models.
    pub fn name(&self) -> ServiceName {
        self.name
    }

    /// The models by name and version.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of connections that the server ended.
    pub fn connections(&self) -> &Arc<ConnectionCounters> {
        self.metrics.connections()
    }

    /// The times of answered requests.
    pub fn answers(&self) -> &AnswerTimes {
        self.metrics.answers()
    }

    /// Whether a GPU failed.
    pub fn gpu_fault(&self) -> &GpuFault {
        &self.gpu_fault
    }

    /// The limits of one request.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The pool that request bodies are received into.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// The decoder of the images in requests.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// How a model takes encoded images; `None` for a model that does not.
    pub fn image_input(&self, model: &Model) -> Option<ImageInput> {
        let config = self.config(model).unwrap_or_default();
        // Parameters that do not fit kept the model from loading.
        ImageInput::new(model.spec(), &config.parameters, self.decoder.jpeg_decode()).ok().flatten()
    }

    /// The output of a model that is this to an image, with its index.
    ///
    /// # Errors
    /// As [`ImageOutput::of`].
    pub fn image_output<'a>(
        &self,
        model: &'a Model,
        output: ImageOutput,
    ) -> Result<(usize, &'a TensorSpec), InferError> {
        output.of(model.spec(), &self.config(model).unwrap_or_default().parameters)
    }

    /// The effective configuration of a model.
    pub fn config(&self, model: &Model) -> Option<Arc<ModelConfig>> {
        self.configs.read().get(&(model.spec().name().to_owned(), model.spec().version())).cloned()
    }

    /// The effective configurations of all versions of a model.
    pub fn configs(&self, name: &str) -> Vec<Arc<ModelConfig>> {
        self.configs
            .read()
            .iter()
            .filter(|((model, _), _)| model == name)
            .map(|(_, config)| Arc::clone(config))
            .collect()
    }

    /// The metrics of the models, of the memory for requests and of the machine in this format.
    pub fn render_metrics(&self, format: Format) -> String {
        self.metrics.render(&self.registry, format)
            + &memory_metrics::render(self.pool.budget(), format)
            + &self.gpu_fault.render(format)
            + &self.devices.render(format)
            + format.end()
    }

    /// Puts a model into service, with its effective configuration.
    pub fn put(&self, model: Model, config: ModelConfig) {
        let (name, version) = (model.spec().name().to_owned(), model.spec().version());
        self.observe(&model, &config);
        self.configs.write().insert((name.clone(), version), Arc::new(config));
        self.registry.set(&name, version, VersionState::Ready(Arc::new(model)));
    }

    /// Counts the model's requests, and reports the failure of its GPU.
    fn observe(&self, model: &Model, config: &ModelConfig) {
        self.metrics.register(model, config);
        let (gpu_fault, name) = (self.gpu_fault.clone(), model.spec().name().to_owned());
        model.on_device_lost(move |error| gpu_fault.report(&name, &error.to_string()));
    }

    /// Takes the models that run on a GPU out of service for this reason.
    pub fn lose_gpu(&self, reason: &str) {
        // The name of the GPU comes from the driver's management library, which a container may lack.
        let on_gpu = |model: &Model| {
            let Placement { gpu, nodes, .. } = model.placement();
            gpu.is_some()
                || nodes.iter().any(|(name, _)| Provider::ON_GPUS.iter().any(|provider| provider.name() == name))
        };
        for model in self.registry.lose_device(reason, on_gpu) {
            tracing::error!(
                service = self.name.as_str(),
                model = model.spec().name(),
                reason,
                "the model is out of service"
            );
            // Its sessions are not dropped: that would call the GPU that failed. Only the end of the process frees them.
            std::mem::forget(model);
        }
    }

    /// Replaces all versions of a model at once; a version that could not be loaded is kept with the reason.
    /// Returns the models that were replaced.
    pub fn replace(&self, name: &str, versions: Vec<(u64, LoadOutcome)>) -> Vec<Arc<Model>> {
        let mut states = BTreeMap::new();
        let mut configs = self.configs.write();
        configs.retain(|(model, _), _| model != name);
        self.metrics.forget(name);
        for (version, loaded) in versions {
            let state = match loaded {
                Ok((model, config)) => {
                    self.observe(&model, &config);
                    configs.insert((name.to_owned(), version), Arc::new(config));
                    VersionState::Ready(Arc::new(model))
                }
                Err(reason) => VersionState::Failed(reason),
            };
            states.insert(version, state);
        }
        self.registry.replace(name, states)
    }

    /// Takes all versions of a model out of service, and returns them.
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
}
