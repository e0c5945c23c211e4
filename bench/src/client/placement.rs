//! The placement of a tensor in shared memory, and its request parameters.

use quintet_proto::inference::{InferParameter, infer_parameter::ParameterChoice};

/// A range of bytes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where they begin.
    pub offset: usize,
    /// How many they are.
    pub bytes: usize,
}

/// The parameters of a tensor that is in a region.
pub fn parameters(region: &str, place: Placement) -> [(&'static str, serde_json::Value); 3] {
    [
        ("shared_memory_region", region.into()),
        ("shared_memory_offset", place.offset.into()),
        ("shared_memory_byte_size", place.bytes.into()),
    ]
}

/// The same in gRPC's form.
pub fn grpc_parameters(region: &str, place: Placement) -> [(String, InferParameter); 3] {
    parameters(region, place).map(|(name, value)| {
        let choice = match value {
            serde_json::Value::String(text) => ParameterChoice::StringParam(text),
            number => ParameterChoice::Int64Param(number.as_i64().unwrap_or_default()),
        };
        (name.to_owned(), InferParameter { parameter_choice: Some(choice) })
    })
}
