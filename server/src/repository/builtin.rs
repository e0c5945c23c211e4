//! Models that are a configuration and no file: ensembles, and the backend `image`.

use std::{sync::Arc, thread, time::Instant};

use anyhow::{Context as _, anyhow, ensure};
use quintet_engine::{DataType, Instance, Model, TensorSpec};
use quintet_proto::inference::{
    ModelConfig, ModelInstanceGroup, model_config::SchedulingChoice, model_instance_group::Kind,
};

use super::{ModelSource, loader::Loader, spec::complete, warmup};
use crate::{backend::image::Images, kserve::ensemble::Ensemble, service::Service};

/// Loads and warms such a model. Blocks.
///
/// # Errors
/// When its configuration is wrong in itself, or does not fit the models that it is made of.
pub(super) fn load(
    source: &ModelSource,
    loader: &Loader,
    service: &Arc<Service>,
    started: Instant,
) -> anyhow::Result<(Model, ModelConfig)> {
    let mut source = source.clone();
    let config = &mut source.config;
    let steps = match &config.scheduling_choice {
        Some(SchedulingChoice::EnsembleScheduling(ensemble)) => Some(ensemble.step.clone()),
        _ => None,
    };
    let (inputs, outputs) = match &steps {
        Some(_) => (
            listed("input", config, |config| {
                config.input.iter().map(|it| (it.name.clone(), it.data_type, it.dims.clone(), it.optional)).collect()
            })?,
            listed("output", config, |config| {
                config.output.iter().map(|it| (it.name.clone(), it.data_type, it.dims.clone(), false)).collect()
            })?,
        ),
        None => {
            let name = |named: Option<&String>, default: &str| named.map_or(default, String::as_str).to_owned();
            let input = name(config.input.first().map(|it| &it.name), "image");
            let output = name(config.output.first().map(|it| &it.name), "pixels");
            let (input, output) = Images::tensors(&input, &output);
            config.max_batch_size = config.max_batch_size.max(1);
            (vec![input], vec![output])
        }
    };
    if steps.is_none() && config.instance_group.is_empty() {
        let count = i32::try_from(thread::available_parallelism()?.get())?;
        config.instance_group.push(ModelInstanceGroup { count, kind: Kind::Cpu.into(), ..Default::default() });
    }
    let mut details = complete(&source, &inputs, &outputs, loader.auto_complete)?;
    let cache = loader.cache_of(&mut details);
    details.warn(service.name(), &source.name);
    let pool = service.pool().clone();
    let mut model = match steps {
        Some(steps) => {
            let ensemble = Ensemble::new(&details.spec, &steps, service).map_err(|error| anyhow!(error));
            let ensemble = Box::new(ensemble.context("ensemble_scheduling")?);
            Model::compose(details.spec, ensemble, Ensemble::placement(), pool, started.elapsed())
        }
        None => {
            let samples = warmup::samples(&details.config, &details.spec, &source.folder)?;
            let max_pixels = service.limits().max_image_pixels;
            let instance = |_| -> Box<dyn Instance> { Box::new(Images::new(max_pixels, pool.clone())) };
            let instances: Vec<_> = (0..details.spec.instances()).map(instance).collect();
            Model::start(details.spec, instances, samples, pool, started.elapsed())?
        }
    };
    if let Some(cache) = cache {
        model = model.with_cache(cache);
    }
    tracing::info!(
        service = service.name().as_str(),
        model = source.name,
        version = source.version,
        runs_on = %model.placement(),
        "model is ready"
    );
    Ok((model, details.config))
}

/// The tensors that a configuration lists, with the batch's dimension.
fn listed(
    what: &str,
    config: &ModelConfig,
    tensors: impl Fn(&ModelConfig) -> Vec<(String, i32, Vec<i64>, bool)>,
) -> anyhow::Result<Vec<TensorSpec>> {
    let tensors = tensors(config);
    ensure!(!tensors.is_empty(), "an ensemble lists its {what}s, with data_type and dims");
    let batch = (config.max_batch_size > 0).then_some(None);
    let spec = |(name, data_type, dims, optional): (String, i32, Vec<i64>, bool)| {
        let data_type = DataType::from_number(data_type)
            .with_context(|| format!("{what} '{name}' of the ensemble has no data_type"))?;
        let dims = batch.into_iter().chain(dims.iter().map(|&dim| usize::try_from(dim).ok()));
        Ok(TensorSpec { optional, ..TensorSpec::new(name, data_type, dims.collect::<Vec<_>>()) })
    };
    tensors.into_iter().map(spec).collect()
}
