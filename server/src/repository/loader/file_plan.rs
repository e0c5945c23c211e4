//! The plan for a model file: providers, tuning, and the GPU of each instance.

use std::{path::Path, sync::Arc};

use anyhow::{anyhow, ensure};
use quintet_engine::{Instance, Placement, TensorSpec};
use quintet_proto::inference::ModelConfig;

use super::{
    model_file::{self, ModelFile, Tensors},
    options::Loader,
    placement::{is_on_cpu, settle_kinds},
};
use crate::{
    backend::{
        onnx::{self, LoadOptions, Provider, ProviderPolicy, Tuning},
        resting::Resting,
    },
    catalog::Catalog,
    repository::{
        accelerators::{self, Wanted},
        backend::Backend,
        error::ConfigError,
        fingerprint::Fingerprint,
        source::ModelSource,
        spec::SpecDetails,
        tuning,
    },
};

/// A model with a file.
pub(super) struct FilePlan {
    source: ModelSource,
    loader: Loader,
    /// The model's files before the first of them is opened.
    files: Fingerprint,
    options: LoadOptions,
    tuning: Tuning,
    /// The GPU of each instance.
    devices: Vec<i32>,
    /// The tensors of a TorchScript file, from the configuration: the file does not name them.
    listed: Option<Tensors>,
}

impl FilePlan {
    /// The plan for a model.
    ///
    /// # Errors
    /// When its configuration contradicts itself.
    pub(super) fn new(source: ModelSource, loader: Loader) -> Result<Self, ConfigError> {
        let config = &source.config;
        let files = Fingerprint::of_folder(&source.folder);
        let options = LoadOptions {
            library: loader.library,
            providers: allowed_providers(&loader, config),
            engine_cache: loader.engine_cache.clone(),
        };
        let (mut tuning, _) = tuning::tuning(config)?;
        tuning.profile = accelerators::profile(config, loader.auto_complete);
        if loader.providers.is_some() {
            // In Triton mode the precision is Triton's default: the model's own.
            tuning.tensorrt.prefer_fp16();
        }
        let devices = tuning::instance_devices(&config.instance_group);
        let is_pytorch = Backend::of(config) == Backend::PyTorch;
        let listed = is_pytorch.then(|| model_file::listed_tensors(config)).transpose()?;
        Ok(Self { source, loader, files, options, tuning, devices, listed })
    }

    /// The model.
    pub(super) fn source(&self) -> &ModelSource {
        &self.source
    }

    fn device(&self, index: usize) -> i32 {
        self.devices.get(index).copied().unwrap_or(0)
    }

    /// Opens the file for the instance at `index`.
    ///
    /// # Errors
    /// When the backend cannot read it, or no allowed provider can run it.
    pub(super) fn open(&self, index: usize) -> anyhow::Result<ModelFile> {
        let (file, providers) = (&self.source.model_file, &self.options.providers);
        if let Some(tensors) = &self.listed {
            return model_file::torch(file, tensors.clone(), providers, self.device(index));
        }
        let tuning = Tuning { device: self.device(index), ..self.tuning.clone() };
        let session = onnx::load(file, &self.options, &tuning).map_err(|error| match self.loader.policy {
            ProviderPolicy::Strict if *providers != [Provider::Cpu] => {
                anyhow!("{error} (--provider-policy strict: no other provider may run it)")
            }
            _ => error.into(),
        })?;
        if index == 0 && !session.left_out.is_empty() {
            let (model, outputs) = (&self.source.name, session.left_out.join(", "));
            tracing::warn!(model, outputs, "outputs that are not served: the protocol has no such type");
        }
        Ok(ModelFile::Onnx(session))
    }

    /// Sets up page-locked memory for a model on a GPU, and updates `details` to the devices that it really runs on.
    pub(super) fn settle(&self, details: &mut SpecDetails, placement: &Placement, catalog: &Catalog) {
        let optimization = self.source.config.optimization.as_ref();
        let pins = optimization.and_then(|optimization| optimization.input_pinned_memory);
        if is_on_cpu(placement) {
            details.without_effect.extend(pins.map(|_| "optimization.input_pinned_memory (runs on the CPU)".into()));
        } else if pins.is_none_or(|pins| pins.enable) {
            let pool = catalog.pool();
            match onnx::pinned(&self.loader.library.environment, self.device(0), pool.max_idle_bytes()) {
                Ok(source) => pool.set_source(source),
                Err(reason) => {
                    let service = catalog.name().as_str();
                    tracing::warn!(
                        service,
                        reason,
                        "page-locked memory is not available; requests use ordinary memory"
                    );
                }
            }
        }
        settle_kinds(details, placement, self.loader.providers.is_none());
    }

    /// All instances. The first is `first`, unless libtorch serves weights instead of the model file.
    ///
    /// # Errors
    /// As [`FilePlan::open`].
    pub(super) fn open_all(
        self: Arc<Self>,
        first: ModelFile,
        details: &SpecDetails,
    ) -> anyhow::Result<Vec<Box<dyn Instance>>> {
        let count = details.spec.instances();
        let (first, open): (_, Open) = match &self.loader.weights {
            Some(weights) => {
                let (plan, weights, tensors) = (Arc::clone(&self), weights.clone(), selected(&first, details));
                drop(first);
                (None, Arc::new(move |index| plan.open_weights(&weights, &tensors, index)))
            }
            None => {
                let plan = Arc::clone(&self);
                (Some(first), Arc::new(move |index| plan.open(index)))
            }
        };
        let others = (usize::from(first.is_some())..count).map(|index| open(index));
        let opened = first.map(Ok).into_iter().chain(others).collect::<anyhow::Result<Vec<_>>>()?;
        let instances = opened.into_iter().map(|opened| opened.into_instance(details));
        let Some(after) = self.loader.idle_unload else { return Ok(instances.collect()) };
        let details = Arc::new(details.clone());
        let resting = |(index, instance): (usize, Box<dyn Instance>)| {
            let (plan, open, details) = (Arc::clone(&self), Arc::clone(&open), Arc::clone(&details));
            let again = move || {
                let folder = &plan.source.folder;
                ensure!(
                    Fingerprint::of_folder(folder) == plan.files,
                    "the files in {} have changed since it was loaded: load it again",
                    folder.display()
                );
                Ok(open(index)?.into_instance(&details))
            };
            Box::new(Resting::new(self.source.name.clone(), instance, after, Box::new(again))) as Box<dyn Instance>
        };
        Ok(instances.enumerate().map(resting).collect())
    }

    /// libtorch's instance of `weights` at `index`.
    fn open_weights(&self, weights: &Path, tensors: &Tensors, index: usize) -> anyhow::Result<ModelFile> {
        model_file::torch(weights, tensors.clone(), &self.options.providers, self.device(index))
    }
}

/// Opens the model for the instance at an index.
type Open = Arc<dyn Fn(usize) -> anyhow::Result<ModelFile> + Send + Sync>;

/// The tensors of a model file, in the order of the configuration.
fn selected(file: &ModelFile, details: &SpecDetails) -> Tensors {
    let select = |wanted: &[TensorSpec], known: &[TensorSpec]| {
        let named = |spec: &TensorSpec| known.iter().find(|tensor| tensor.name == spec.name).cloned();
        wanted.iter().filter_map(named).collect::<Vec<_>>()
    };
    (select(details.spec.inputs(), file.inputs()), select(details.spec.outputs(), file.outputs()))
}

/// The providers to try, in order.
fn allowed_providers(loader: &Loader, config: &ModelConfig) -> Vec<Provider> {
    let Wanted { mut providers, is_explicit } = match &loader.providers {
        Some(providers) => Wanted { providers: providers.clone(), is_explicit: true },
        None => accelerators::wanted(config),
    };
    if Backend::of(config) == Backend::PyTorch {
        providers.retain(|provider| matches!(provider, Provider::Cuda | Provider::Cpu));
    }
    if loader.policy == ProviderPolicy::Strict && is_explicit {
        providers.truncate(1);
    }
    providers
}
