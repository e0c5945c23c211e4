//! Settings for loading the models of a repository.

use std::{path::PathBuf, sync::Arc, time::Duration};

use quintet_engine::Cache;
use quintet_onnxruntime::Loaded;
use quintet_proto::inference::ModelParameter;

use crate::{
    backend::onnx::{EngineCache, Provider, ProviderPolicy},
    repository::{backend::Backend, source::ModelSource, spec::SpecDetails},
};

/// Settings for loading the models of a repository.
#[derive(Clone)]
pub struct Loader {
    /// ONNX Runtime, with the one environment of the process, which owns the thread pool.
    pub library: &'static Loaded,
    /// Providers to try, in order; `None` uses those of each model's configuration.
    pub providers: Option<Vec<Provider>>,
    /// Whether a model may run on another provider than the first. A strict policy applies only to a provider that the
    /// configuration names.
    pub policy: ProviderPolicy,
    /// The cache of TensorRT engines.
    pub engine_cache: Option<EngineCache>,
    /// Weights or TorchScript that libtorch serves instead of the model files, which then only define the tensors.
    pub weights: Option<PathBuf>,
    /// Maximum batch size for a model that supports batching and has no configuration; `None` completes nothing.
    pub auto_complete: Option<i32>,
    /// Parameters for models with a file whose configuration does not have them: keys and values.
    pub parameters: Vec<(String, String)>,
    /// The response cache for models that enable it; `None` for no cache.
    pub response_cache: Option<Arc<Cache>>,
    /// How long an instance may be without a request before it closes its model file until the next one; `None` for ever.
    pub idle_unload: Option<Duration>,
}

impl Loader {
    /// A model on disk with the parameters that its configuration does not have.
    pub(super) fn with_parameters(&self, source: &ModelSource) -> ModelSource {
        let mut source = source.clone();
        if Backend::of(&source.config).needs_file() {
            for (key, value) in &self.parameters {
                let parameter = ModelParameter { string_value: value.clone() };
                source.config.parameters.entry(key.clone()).or_insert(parameter);
            }
        }
        source
    }

    /// The response cache, if the model enables it and there is one.
    pub(super) fn cache_of(&self, details: &mut SpecDetails) -> Option<Arc<Cache>> {
        details.config.response_cache.filter(|cache| cache.enable)?;
        if self.response_cache.is_none() {
            details
                .without_effect
                .push("response_cache (the server has no cache: set --cache-config local,size=BYTES)".into());
        }
        self.response_cache.clone()
    }
}
