//! The output of a model that a request to the jpeg lane asks for.

use quintet_engine::{DataType, ErrorKind, InferError, ModelSpec, TensorSpec};

/// The FP32 output of this name, or the only output whatever its name, with its index.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a model without that output; the message names its outputs.
pub fn named<'a>(spec: &'a ModelSpec, name: &str) -> Result<(usize, &'a TensorSpec), InferError> {
    let found = spec.outputs().iter().enumerate().find(|(_, output)| output.name == name);
    let only = match spec.outputs() {
        [only] => Some((0, only)),
        _ => None,
    };
    found.or(only).filter(|(_, output)| output.data_type == DataType::Fp32).ok_or_else(|| {
        let outputs: Vec<_> =
            spec.outputs().iter().map(|output| format!("'{}' {}", output.name, output.data_type)).collect();
        InferError::new(
            ErrorKind::Unsupported,
            format_args!("model '{}' has no FP32 output '{name}'; its outputs are {}", spec.name(), outputs.join(", ")),
        )
    })
}
