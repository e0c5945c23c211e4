//! Runs of an instance before it serves, on the thread that it serves on: libraries of GPUs keep some of what first
//! runs set up for each thread.

use bytes::BytesMut;
use quintet_proto::DataType;

use crate::{
    backend::{Instance, RunRequest, RunTimings, guarded},
    cancel::Cancel,
    error::InferError,
    spec::{ModelSpec, OutputSet},
    tensor::{Shape, Tensor},
};

/// A request that the configuration of a model warms it with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What errors call it.
    pub name: String,
    /// One entry for each of the model's inputs, in its order; `None` for an optional one that is left out.
    pub inputs: Vec<Option<Tensor>>,
    /// How often it is run.
    pub count: usize,
}

/// A warm-up that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarmUpError {
    /// A run of a sample failed.
    #[error("{sample} failed: {error}")]
    Sample {
        /// The sample's name.
        sample: String,
        /// What the backend reported.
        error: InferError,
    },
    /// A run on zeros failed, or the thread ended before it.
    #[error(transparent)]
    Run(#[from] InferError),
    /// A tensor of zeros would be too large.
    #[error("a warm-up tensor of shape {0} is over 4 GiB")]
    TooLarge(Shape),
}

/// Maximum bytes of a tensor of zeros.
const MAX_BYTES: usize = 1 << 32;

/// Runs the samples, then each announced batch size once, on zeros; dynamic dimensions are 1.
pub(crate) fn run(spec: &ModelSpec, samples: &[Sample], instance: &mut dyn Instance) -> Result<(), WarmUpError> {
    for sample in samples {
        for _ in 0..sample.count {
            run_once(spec, &sample.inputs, instance)
                .map_err(|error| WarmUpError::Sample { sample: sample.name.clone(), error })?;
        }
    }
    for &rows in spec.warmup_batch_sizes() {
        let inputs = spec.inputs().iter().map(|input| {
            let dims = input.dims.iter().map(|dim| dim.unwrap_or(1));
            let dims: Vec<_> = spec.batches().then_some(rows).into_iter().chain(dims).collect();
            zeros(input.data_type, Shape::new(dims)).map(Some)
        });
        run_once(spec, &inputs.collect::<Result<Vec<_>, _>>()?, instance)?;
    }
    Ok(())
}

/// A tensor of zeros, of empty strings for BYTES.
fn zeros(data_type: DataType, shape: Shape) -> Result<Tensor, WarmUpError> {
    let count = shape.elements().unwrap_or(usize::MAX);
    // An empty string is a length of 0, in 4 bytes.
    let bytes = count.saturating_mul(data_type.size().unwrap_or(4));
    if bytes > MAX_BYTES {
        return Err(WarmUpError::TooLarge(shape));
    }
    Ok(Tensor::new(data_type, shape, BytesMut::zeroed(bytes).freeze()).map_err(InferError::from)?)
}

fn run_once(spec: &ModelSpec, inputs: &[Option<Tensor>], instance: &mut dyn Instance) -> Result<(), InferError> {
    let outputs = OutputSet::all(spec.outputs().len());
    let request = RunRequest { inputs, outputs, placements: &[], cancel: &Cancel::new(1) };
    guarded(|| instance.run(request, &mut RunTimings::default())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_fit_every_data_type_up_to_the_limit() {
        for data_type in DataType::all() {
            assert!(zeros(data_type, Shape::new([2, 3])).is_ok(), "{data_type}");
        }
        let shape = Shape::new([MAX_BYTES + 1]);
        assert_eq!(zeros(DataType::Uint8, shape.clone()), Err(WarmUpError::TooLarge(shape)));
    }
}
