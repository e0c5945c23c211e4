//! Loads a model: from a version on disk to a model in service.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use quintet_engine::{GpuMemory, Model, StartError};
use quintet_proto::inference::ModelConfig;

use super::{options::Loader, plan::Plan};
use crate::{
    backend::onnx::release_now,
    catalog::Catalog,
    observe::gpu,
    repository::{folders::no_file, source::ModelSource, spec::complete, warmup},
};

impl Loader {
    /// Loads and warms a model for the service of `catalog`. Blocks.
    ///
    /// # Errors
    /// When the model cannot be loaded, does not fit its configuration, or fails its warm-up.
    pub fn load(&self, source: &ModelSource, catalog: &Arc<Catalog>) -> anyhow::Result<(Model, ModelConfig)> {
        let started = Instant::now();
        let source = &self.with_parameters(source);
        let in_config = || source.config_origin.to_string();
        let plan = Plan::new(source, self).with_context(in_config)?;
        let is_file = plan.is_file();
        if is_file && !source.model_file.is_file() {
            return Err(no_file(source).into());
        }

        let memory_before = gpu::memory_used_bytes();
        let opened = plan.open()?;
        let (inputs, outputs) = opened.tensors();
        let mut details = complete(opened.source(), inputs, outputs, self.auto_complete).with_context(in_config)?;
        opened.settle(&mut details, catalog);
        let cache = self.cache_of(&mut details);
        details.warn(catalog.name(), &source.name);
        let samples = warmup::samples(&details.config, &details.spec, &source.folder).with_context(in_config)?;

        let runner = opened.into_runner(&details, catalog);
        let model = runner.and_then(|runner| runner.start(details.spec, samples, catalog.pool().clone(), started));
        let model = model.inspect_err(|error| {
            if let Some(lost) = error.downcast_ref::<StartError>().and_then(StartError::device_lost) {
                catalog.gpu_fault().report(&source.name, &lost.to_string());
            }
        });
        // Without a model file, an error is an error of the configuration.
        let mut model = if is_file { model? } else { model.with_context(in_config)? };
        let is_on_gpu = model.placement().gpu.is_some();
        model = model.with_gpu_memory(if is_on_gpu {
            added(&memory_before, &gpu::memory_used_bytes())
        } else {
            Vec::new()
        });
        if is_file {
            release_now();
        }
        if let Some(cache) = cache {
            model = model.with_cache(cache);
        }
        tracing::info!(
            service = catalog.name().as_str(),
            model = source.name,
            version = source.version,
            runs_on = %model.placement(),
            warmed = ?model.warmed_batch_sizes(),
            seconds = format!("{:.1}", started.elapsed().as_secs_f64()),
            "model is ready"
        );
        Ok((model, details.config))
    }
}

/// What each GPU has more in use than before. Other loads and processes count, too.
fn added(before: &[u64], after: &[u64]) -> Vec<GpuMemory> {
    let more = before.iter().zip(after).enumerate().map(|(gpu, (before, after))| (gpu, after.saturating_sub(*before)));
    more.filter(|&(_, bytes)| bytes > 0).map(|(gpu, bytes)| GpuMemory { gpu, bytes }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_takes_what_its_gpus_have_more_in_use() {
        assert_eq!(added(&[100, 500, 7], &[400, 500, 3]), [GpuMemory { gpu: 0, bytes: 300 }]);
        assert!(added(&[], &[]).is_empty());
    }
}
