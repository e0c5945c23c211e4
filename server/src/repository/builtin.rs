//! Models that are a configuration and no file: ensembles, and the backend `image`.

use std::{sync::Arc, thread, time::Instant};

use anyhow::{Context as _, anyhow, ensure};
use quintet_engine::{DataType, Instance, Model, TensorSpec};
use quintet_proto::inference::{
    ModelConfig, ModelInstanceGroup, model_config::SchedulingChoice, model_instance_group::Kind,
};

use super::{ModelSource, spec::complete, warmup};
use crate::{
    backend::{
        ensemble::{self, Ensemble},
        image::Images,
    },
    service::Service,
};

/// Loads and warms such a model. Blocks.
///
/// # Errors
/// When its configuration is wrong in itself, or does not fit the models that it is made of.
pub(super) fn load(
    source: &ModelSource,
    auto_complete: Option<i32>,
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
                config.input.iter().map(|it| (it.name.clone(), it.data_type, it.dims.clone())).collect()
            })?,
            listed("output", config, |config| {
                config.output.iter().map(|it| (it.name.clone(), it.data_type, it.dims.clone())).collect()
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
    if config.instance_group.is_empty() {
        let count = if steps.is_some() { ensemble::REQUESTS_AT_ONCE } else { thread::available_parallelism()?.get() };
        let count = i32::try_from(count)?;
        config.instance_group.push(ModelInstanceGroup { count, kind: Kind::Cpu.into(), ..Default::default() });
    }
    let mut details = complete(&source, &inputs, &outputs, auto_complete)?;
    let samples = warmup::samples(&details.config, &details.spec, &source.folder)?;
    let ensemble = steps.map(|steps| Ensemble::new(&details.spec, &steps, service).map_err(|error| anyhow!(error)));
    let ensemble = ensemble.transpose().context("ensemble_scheduling")?;
    let max_pixels = service.limits().max_image_pixels;
    let instance = || -> Box<dyn Instance> {
        match &ensemble {
            Some(ensemble) => Box::new(ensemble.clone()),
            None => Box::new(Images::new(max_pixels, service.pool().clone())),
        }
    };
    let mut instances: Vec<_> = (0..details.spec.instances()).map(|_| instance()).collect();
    if let Some(first) = instances.first_mut() {
        warmup::run(&samples, &details.spec, first.as_mut())?;
    }
    if ensemble.is_some() {
        details.config.instance_group.clear();
    }
    let model = Model::start(details.spec, instances, service.pool().clone(), started.elapsed())?;
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
    tensors: impl Fn(&ModelConfig) -> Vec<(String, i32, Vec<i64>)>,
) -> anyhow::Result<Vec<TensorSpec>> {
    let tensors = tensors(config);
    ensure!(!tensors.is_empty(), "an ensemble lists its {what}s, with data_type and dims");
    let batch = (config.max_batch_size > 0).then_some(None);
    let spec = |(name, data_type, dims): (String, i32, Vec<i64>)| {
        let data_type = DataType::from_number(data_type)
            .with_context(|| format!("{what} '{name}' of the ensemble has no data_type"))?;
        let dims = batch.into_iter().chain(dims.iter().map(|&dim| usize::try_from(dim).ok()));
        Ok(TensorSpec::new(name, data_type, dims.collect::<Vec<_>>()))
    };
    tensors.into_iter().map(spec).collect()
}
