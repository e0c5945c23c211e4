//! Runs of an instance before it serves, on the thread that it serves on: libraries of GPUs keep some of what first
//! runs set up for each thread.

use bytes::BytesMut;
use quintet_proto::DataType;

use crate::{
    backend::{Instance, RunRequest, RunTimings, guarded},
    cancel::Cancel,
    error::{ErrorKind, InferError},
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
    /// A run on zeros lost the device or contradicted the configuration, or the thread ended before it.
    #[error(transparent)]
    Run(#[from] InferError),
}

/// Maximum bytes of a tensor of zeros.
const MAX_BYTES: usize = 1 << 32;

/// Runs the samples, which the user asked for.
///
/// # Errors
/// When a run fails.
pub(crate) fn run_samples(
    spec: &ModelSpec,
    samples: &[Sample],
    instance: &mut dyn Instance,
) -> Result<(), WarmUpError> {
    for sample in samples {
        for _ in 0..sample.count {
            run_once(spec, &sample.inputs, instance)
                .map_err(|error| WarmUpError::Sample { sample: sample.name.clone(), error })?;
        }
    }
    Ok(())
}

/// Runs each of these batch sizes once on zeros, with dynamic dimensions of 1, until one fails. Returns those that ran:
/// nobody asked for these inputs, and the model may have reasons to refuse them, so that it serves all the same.
///
/// # Errors
/// When the device is lost, or the model shows that it is not as its configuration says.
pub(crate) fn run_on_zeros(
    spec: &ModelSpec,
    batch_sizes: &[usize],
    instance: &mut dyn Instance,
) -> Result<Vec<usize>, WarmUpError> {
    for (index, &rows) in batch_sizes.iter().enumerate() {
        match zeros(spec, rows).and_then(|inputs| run_once(spec, &inputs, instance)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::DeviceLost || matches!(error, InferError::Misconfigured(_)) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(
                    model = spec.name(), batch_size = rows, %error,
                    "the model serves without this warm-up, on zeros and with dynamic dimensions of 1; \
                     model_warmup in its config.pbtxt can give it inputs that it takes"
                );
                return Ok(batch_sizes[..index].to_vec());
            }
        }
    }
    Ok(batch_sizes.to_vec())
}

/// Inputs of zeros for this many rows.
fn zeros(spec: &ModelSpec, rows: usize) -> Result<Vec<Option<Tensor>>, InferError> {
    let inputs = spec.inputs().iter().map(|input| {
        let dims = input.dims.iter().map(|dim| dim.unwrap_or(1));
        let dims: Vec<_> = spec.batches().then_some(rows).into_iter().chain(dims).collect();
        zero(input.data_type, Shape::new(dims)).map(Some)
    });
    inputs.collect()
}

/// A tensor of zeros, of empty strings for BYTES.
fn zero(data_type: DataType, shape: Shape) -> Result<Tensor, InferError> {
    let count = shape.elements().unwrap_or(usize::MAX);
    // An empty string is a length of 0, in 4 bytes.
    let bytes = count.saturating_mul(data_type.size().unwrap_or(4));
    if bytes > MAX_BYTES {
        return Err(InferError::invalid(format_args!("a tensor of shape {shape} is over 4 GiB")));
    }
    Ok(Tensor::new(data_type, shape, BytesMut::zeroed(bytes).freeze())?)
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
            assert!(zero(data_type, Shape::new([2, 3])).is_ok(), "{data_type}");
        }
        let error = zero(DataType::Uint8, Shape::new([MAX_BYTES + 1])).unwrap_err();
        assert_eq!(error.to_string(), format!("a tensor of shape [{}] is over 4 GiB", MAX_BYTES + 1));
    }
}
