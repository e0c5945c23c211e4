//! Errors of the libtorch backend.

use quintet_engine::DataType;
use tch::TchError;

/// A model that libtorch cannot run.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The first line of libtorch's message.
        reason: String,
    },
    /// The model's inputs or outputs are not those of a ResNet.
    #[error("libtorch serves a ResNet with one FP32 input and the outputs 'embedding' and 'logits', not '{0}'")]
    Tensor(String),
    /// A tensor of a type that libtorch does not have.
    #[error("'{name}' is {data_type}, which libtorch does not have")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        data_type: DataType,
    },
}

/// The first line of a libtorch message, which may contain backtraces and whole tensors.
pub(super) fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(300).collect()
}
