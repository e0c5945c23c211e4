//! What an instance runs before it serves, on the thread that it will serve on: a GPU's library keeps some of what it
//! makes in first runs for the thread that ran them.

use crate::{
    backend::{Instance, RunTimings},
    batch::gather::zeros,
    cancel::Cancel,
    error::InferError,
    request::OutputSet,
    spec::ModelSpec,
    tensor::{Shape, Tensor},
    worker,
};

/// A request that the configuration of a model warms it with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What its errors call it.
    pub name: String,
    /// One entry for each of the model's inputs, in its order; `None` for an optional one that is left out.
    pub inputs: Vec<Option<Tensor>>,
    /// How often it is run.
    pub count: usize,
}

/// Runs the samples, then each announced batch size once, on zeros; dynamic dimensions are 1.
pub(crate) fn run(spec: &ModelSpec, samples: &[Sample], instance: &mut dyn Instance) -> Result<(), InferError> {
    for sample in samples {
        for _ in 0..sample.count {
            one(spec, &sample.inputs, instance).map_err(|error| {
                InferError::new(error.kind(), format_args!("model_warmup '{}' failed: {error}", sample.name))
            })?;
        }
    }
    for &rows in spec.warmup_batch_sizes() {
        let inputs = spec
            .inputs()
            .iter()
            .map(|input| {
                let dims = input.dims.iter().map(|dim| dim.unwrap_or(1));
                let dims: Vec<_> = spec.batches().then_some(rows).into_iter().chain(dims).collect();
                zeros(input.data_type, Shape::new(dims)).map(Some)
            })
            .collect::<Result<Vec<_>, _>>()?;
        one(spec, &inputs, instance)?;
    }
    Ok(())
}

fn one(spec: &ModelSpec, inputs: &[Option<Tensor>], instance: &mut dyn Instance) -> Result<(), InferError> {
    let wanted = OutputSet::all(spec.outputs().len());
    worker::run(instance, inputs, wanted, &[], &Cancel::new(1), &mut RunTimings::default()).map(drop)
}
