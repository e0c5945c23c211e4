//! How the models of a repository are loaded.

use std::{path::PathBuf, sync::Arc};

use quintet_engine::Cache;
use quintet_onnxruntime::Loaded;

use crate::{
    backend::onnx::{EngineCache, Provider, ProviderPolicy},
    repository::spec::SpecDetails,
};

/// How the models of a repository are loaded.
pub struct Loader {
    /// ONNX Runtime, with the process's one environment, which owns the thread pool.
    pub library: &'static Loaded,
    /// Providers to try, in order; `None` is what each model's configuration asks for.
    pub providers: Option<Vec<Provider>>,
    /// Whether a model may run on another provider than the first. Of those that a configuration asks for,
    /// only one that it names is held to this.
    pub policy: ProviderPolicy,
    /// Where TensorRT keeps its engines.
    pub engine_cache: Option<EngineCache>,
    /// Weights or TorchScript that libtorch serves in the place of the model files, which only say what goes in and
    /// out.
    pub weights: Option<PathBuf>,
    /// Largest batch of a model without a configuration that can batch; `None` completes nothing.
    pub auto_complete: Option<i32>,
    /// Where answers are kept of models that ask for it; `None` keeps none.
    pub response_cache: Option<Arc<Cache>>,
}

impl Loader {
    /// The cache of a model that asks for one, if there is one.
    pub(super) fn cache_of(&self, details: &mut SpecDetails) -> Option<Arc<Cache>> {
        details.config.response_cache.filter(|cache| cache.enable)?;
        if self.response_cache.is_none() {
            details.without_effect.push("response_cache (there is none: give --cache-config local,size=BYTES)".into());
        }
        self.response_cache.clone()
    }
}
