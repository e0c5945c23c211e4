//! Models without a model file: ensembles, and the backend `image`.

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
    kind: BuiltinKind,
}

enum BuiltinKind {
    Images,
    Steps(Vec<Step>),
}

impl BuiltinPlan {
    /// The plan for a model, with the configuration completed by its backend.
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
        let inputs = config.input.iter().map(|input| (&*input.name, input.data_type, &*input.dims, input.optional));
        let inputs = listed("input", config, inputs)?;
        let outputs = config.output.iter().map(|output| (&*output.name, output.data_type, &*output.dims, false));
        let outputs = listed("output", config, outputs)?;
        Ok(Self { source, inputs, outputs, kind: BuiltinKind::Steps(steps) })
    }

    fn images(mut source: ModelSource) -> Self {
        let config = &mut source.config;
        let name = |named: Option<&String>, default: &str| named.map_or(default, String::as_str).to_owned();
        let input = name(config.input.first().map(|input| &input.name), "image");
        let output = name(config.output.first().map(|output| &output.name), "pixels");
        let (input, output) = Images::tensors(&input, &output);
        config.max_batch_size = config.max_batch_size.max(1);
        if config.instance_group.is_empty() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let count = i32::try_from(cores).unwrap_or(i32::MAX);
            config.instance_group.push(ModelInstanceGroup { count, kind: Kind::Cpu.into(), ..Default::default() });
        }
        Self { source, inputs: vec![input], outputs: vec![output], kind: BuiltinKind::Images }
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
        match self.kind {
            BuiltinKind::Steps(steps) => {
                let ensemble = Ensemble::new(&details.spec, &steps, catalog).map_err(|error| anyhow!(error));
                Ok(Runner::Ensemble(Box::new(ensemble.context("ensemble_scheduling")?)))
            }
            BuiltinKind::Images => {
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
        let message = format_args!("an ensemble must list its {what}s, each with data_type and dims");
        return Err(ConfigError::contradiction(message));
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
