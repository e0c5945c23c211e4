//! Models that are a configuration and no file: ensembles, and the backend `image`.

use std::{sync::Arc, thread};

use anyhow::{Context as _, anyhow};
use quintet_engine::{DataType, Instance, TensorSpec};
use quintet_proto::inference::{
    ModelConfig, ModelInstanceGroup, model_config::SchedulingChoice, model_ensembling::Step, model_instance_group::Kind,
};

use super::start::Runner;
use crate::{
    backend::image::Images,
    catalog::Catalog,
    kserve::ensemble::Ensemble,
    repository::{error::ConfigError, source::ModelSource, spec::SpecDetails},
};

/// A model without a file.
pub(super) struct BuiltinPlan {
    source: ModelSource,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    runs: Runs,
}

enum Runs {
    Images,
    Steps(Vec<Step>),
}

impl BuiltinPlan {
    /// The plan for a model, with what its backend adds to the configuration.
    ///
    /// # Errors
    /// When an ensemble does not list its tensors.
    pub(super) fn new(source: ModelSource) -> Result<Self, ConfigError> {
        match &source.config.scheduling_choice {
            Some(SchedulingChoice::EnsembleScheduling(ensemble)) => {
                let steps = ensemble.step.clone();
                Self::ensemble(source, steps)
            }
            _ => Ok(Self::images(source)),
        }
    }

    fn ensemble(source: ModelSource, steps: Vec<Step>) -> Result<Self, ConfigError> {
        let config = &source.config;
        let inputs = config.input.iter().map(|it| (&*it.name, it.data_type, &*it.dims, it.optional));
        let inputs = listed("input", config, inputs)?;
        let outputs = config.output.iter().map(|it| (&*it.name, it.data_type, &*it.dims, false));
        let outputs = listed("output", config, outputs)?;
        Ok(Self { source, inputs, outputs, runs: Runs::Steps(steps) })
    }

    fn images(mut source: ModelSource) -> Self {
        let config = &mut source.config;
        let name = |named: Option<&String>, default: &str| named.map_or(default, String::as_str).to_owned();
        let input = name(config.input.first().map(|it| &it.name), "image");
        let output = name(config.output.first().map(|it| &it.name), "pixels");
        let (input, output) = Images::tensors(&input, &output);
        config.max_batch_size = config.max_batch_size.max(1);
        if config.instance_group.is_empty() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let count = i32::try_from(cores).unwrap_or(i32::MAX);
            config.instance_group.push(ModelInstanceGroup { count, kind: Kind::Cpu.into(), ..Default::default() });
        }
        Self { source, inputs: vec![input], outputs: vec![output], runs: Runs::Images }
    }

    /// The model, with the configuration completed.
    pub(super) fn source(&self) -> &ModelSource {
        &self.source
    }

    /// Its inputs and outputs, with the batch dimension.
    pub(super) fn tensors(&self) -> (&[TensorSpec], &[TensorSpec]) {
        (&self.inputs, &self.outputs)
    }

    /// The instances of the image backend, or the ensemble.
    ///
    /// # Errors
    /// When the ensemble does not fit the models of its steps.
    pub(super) fn into_runner(self, details: &SpecDetails, catalog: &Arc<Catalog>) -> anyhow::Result<Runner> {
        match self.runs {
            Runs::Steps(steps) => {
                let ensemble = Ensemble::new(&details.spec, &steps, catalog).map_err(|error| anyhow!(error));
                Ok(Runner::Ensemble(Box::new(ensemble.context("ensemble_scheduling")?)))
            }
            Runs::Images => {
                let (pool, max_pixels) = (catalog.pool(), catalog.limits().max_image_pixels);
                let instance = |_| -> Box<dyn Instance> { Box::new(Images::new(max_pixels, pool.clone())) };
                Ok(Runner::Instances((0..details.spec.instances()).map(instance).collect()))
            }
        }
    }
}

/// The tensors that a configuration lists, each as name, type, dimensions and whether it is optional; the result has
/// the batch dimension.
fn listed<'a>(
    what: &str,
    config: &ModelConfig,
    tensors: impl ExactSizeIterator<Item = (&'a str, i32, &'a [i64], bool)>,
) -> Result<Vec<TensorSpec>, ConfigError> {
    if tensors.len() == 0 {
        let what = format_args!("an ensemble lists its {what}s, with data_type and dims");
        return Err(ConfigError::contradiction(what));
    }
    let batch = (config.max_batch_size > 0).then_some(None);
    let spec = |(name, data_type, dims, optional): (&str, i32, &[i64], bool)| {
        let data_type = DataType::from_number(data_type).ok_or_else(|| {
            ConfigError::contradiction(format_args!("{what} '{name}' of the ensemble has no data_type"))
        })?;
        let dims = batch.into_iter().chain(dims.iter().map(|&dim| usize::try_from(dim).ok()));
        Ok(TensorSpec { optional, ..TensorSpec::new(name, data_type, dims.collect::<Vec<_>>()) })
    };
    tensors.map(spec).collect()
}
