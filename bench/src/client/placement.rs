//! The placement of a tensor in shared memory, and its KServe parameters.

use quintet_proto::inference::{InferParameter, infer_parameter::ParameterChoice};

/// A range of bytes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset of the first byte.
    pub offset: usize,
    /// Length in bytes.
    pub bytes: usize,
}

/// The parameters of a tensor in a region.
pub fn parameters(region: &str, placement: Placement) -> [(&'static str, serde_json::Value); 3] {
    [
        ("shared_memory_region", region.into()),
        ("shared_memory_offset", placement.offset.into()),
        ("shared_memory_byte_size", placement.bytes.into()),
    ]
}

/// The same for gRPC.
pub fn grpc_parameters(region: &str, placement: Placement) -> [(String, InferParameter); 3] {
    parameters(region, placement).map(|(name, value)| {
        let choice = match value {
            serde_json::Value::String(text) => ParameterChoice::StringParam(text),
            number => ParameterChoice::Int64Param(number.as_i64().unwrap_or_default()),
        };
        (name.to_owned(), InferParameter { parameter_choice: Some(choice) })
    })
}
