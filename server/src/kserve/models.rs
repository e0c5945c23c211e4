//! Finds the model that a request names, and describes models for metadata.

use std::sync::Arc;

use quintet_engine::{InferError, Model, TensorSpec};
use quintet_proto::rest;

use crate::catalog::Catalog;

/// The model with this name and version; an empty version stands for the latest one.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a version that is not a number above 0, and as
/// [`quintet_engine::Registry::resolve`].
pub fn resolve(catalog: &Catalog, name: &str, version: &str) -> Result<Arc<Model>, InferError> {
    let version = match version {
        "" => None,
        text => Some(parse_version(text)?),
    };
    Ok(catalog.registry().resolve(name, version)?)
}

fn parse_version(text: &str) -> Result<u64, InferError> {
    let refused = |details: &str| {
        InferError::invalid(format_args!(
            "failed to get model version from specified version string '{text}'{details}, version should be an integral \
             value > 0"
        ))
    };
    match text.parse::<i64>() {
        Ok(number) => u64::try_from(number).ok().filter(|&version| version > 0).ok_or_else(|| refused("")),
        Err(_) => Err(refused(" (details: stol)")),
    }
}

/// A model's platform in metadata. As in Triton, it is the backend if the configuration names no platform.
pub fn platform(catalog: &Catalog, model: &Model) -> String {
    let config = catalog.config(model).unwrap_or_default();
    match (config.platform.as_str(), config.backend.as_str()) {
        ("", "" | "onnxruntime") => "onnxruntime_onnx".to_owned(),
        ("", backend) => backend.to_owned(),
        (platform, _) => platform.to_owned(),
    }
}

/// Tensors as metadata lists them.
pub fn describe_tensors(tensors: &[TensorSpec], batches: bool) -> Vec<rest::TensorMetadata> {
    let describe = |tensor: &TensorSpec| rest::TensorMetadata {
        name: tensor.name.clone(),
        datatype: tensor.data_type.name().to_owned(),
        shape: tensor.announced_shape(batches),
        optional: tensor.optional,
    };
    tensors.iter().map(describe).collect()
}
