//! A loaded session, and the options for loading it.

use std::{
    path::{Path, PathBuf},
    ptr,
};

use ort::{AsPointer as _, session::Session, value::ValueType};
use quintet_engine::{Placement, TensorSpec};
use quintet_onnxruntime::Loaded;

use super::{engine_cache::EngineCache, graphs::Device, handle::Handle, provider::Provider, values};

/// Options for creating sessions.
#[derive(Clone)]
pub struct LoadOptions {
    /// ONNX Runtime, with the one environment of the process, which owns the thread pool.
    pub library: &'static Loaded,
    /// Providers to try, in order.
    pub providers: Vec<Provider>,
    /// The cache of TensorRT engines, unless the model's configuration sets one.
    pub engine_cache: Option<EngineCache>,
}

/// A model that ONNX Runtime cannot load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No provider works.
    #[error("cannot load {path}: {reasons}", path = path.display())]
    Session {
        /// The model file.
        path: PathBuf,
        /// One reason for each provider.
        reasons: String,
    },
    /// An input or an output of a type that the protocol does not have.
    #[error("{path}: '{name}' is of type {what}, which is not supported", path = path.display())]
    Type {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// ONNX Runtime's name of its type.
        what: String,
    },
}

/// A session with the inputs and outputs of its model file.
pub struct LoadedSession {
    pub(super) session: Handle,
    pub(super) placement: Placement,
    /// Whether it is on a GPU, so that batches are bound before they run.
    pub(super) is_bound: bool,
    /// The device on which it may record CUDA graphs, if any.
    pub(super) graphs: Option<Device>,
    /// Inputs, those with a default last; with the batch dimension.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, with the batch dimension.
    pub outputs: Vec<TensorSpec>,
    /// Outputs that are not served, because the protocol does not have their types; each with its type.
    pub left_out: Vec<String>,
}

impl LoadedSession {
    /// The providers that really run the model's nodes.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}

/// The inputs of a session. An input with an initializer in the model is optional; it is left out if its type is not
/// one of the protocol's.
pub(super) fn inputs(path: &Path, session: &Session) -> Result<Vec<TensorSpec>, LoadError> {
    let mut inputs = tensors(path, session.inputs())?;
    for (index, input) in inputs.iter_mut().enumerate() {
        input.is_unranked = is_unranked(session, Side::Input, index);
    }
    let defaults = session.overridable_initializers();
    let known = defaults.iter().filter_map(|input| tensor(path, input.name(), input.dtype()).ok());
    inputs.extend(known.map(|input| TensorSpec { optional: true, ..input }));
    Ok(inputs)
}

/// The outputs of a session, and those of a type that the protocol does not have, each with its type.
///
/// # Errors
/// When the protocol has none of their types.
pub(super) fn outputs(path: &Path, session: &Session) -> Result<(Vec<TensorSpec>, Vec<String>), LoadError> {
    let (mut outputs, mut left_out) = (Vec::new(), Vec::new());
    let mut first = None;
    for (index, outlet) in session.outputs().iter().enumerate() {
        match tensor(path, outlet.name(), outlet.dtype()) {
            Ok(output) => {
                outputs.push(TensorSpec { is_unranked: is_unranked(session, Side::Output, index), ..output });
            }
            Err(error) => {
                left_out.push(format!("{}: {:?}", outlet.name(), outlet.dtype()));
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if outputs.is_empty() => Err(error),
        _ => Ok((outputs, left_out)),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// Whether the model does not say how many dimensions one of its tensors has. ort reports it as a scalar.
fn is_unranked(session: &Session, side: Side, index: usize) -> bool {
    let api = ort::api();
    let type_info = match side {
        Side::Input => api.SessionGetInputTypeInfo,
        Side::Output => api.SessionGetOutputTypeInfo,
    };
    let (mut info, mut tensor) = (ptr::null_mut(), ptr::null());
    // SAFETY: the session lives, and `index` is one of its tensors. On success, `info` is ours until it is released, and
    // `tensor` is a part of it, or null for what is no tensor.
    unsafe {
        if ort::Error::result_from_status(type_info(session.ptr(), index, &mut info)).is_err() {
            return false;
        }
        let cast = ort::Error::result_from_status((api.CastTypeInfoToTensorInfo)(info, &mut tensor));
        let is_unranked = cast.is_ok() && !tensor.is_null() && !(api.TensorTypeAndShape_HasShape)(tensor);
        (api.ReleaseTypeInfo)(info);
        is_unranked
    }
}

/// The tensors of these inputs or outputs.
pub(super) fn tensors(path: &Path, outlets: &[ort::value::Outlet]) -> Result<Vec<TensorSpec>, LoadError> {
    outlets.iter().map(|outlet| tensor(path, outlet.name(), outlet.dtype())).collect()
}

fn tensor(path: &Path, name: &str, kind: &ValueType) -> Result<TensorSpec, LoadError> {
    let refuse = |what: String| LoadError::Type { path: path.to_owned(), name: name.to_owned(), what };
    match kind {
        ValueType::Tensor { ty, shape, .. } => {
            let data_type = values::data_type(*ty).ok_or_else(|| refuse(format!("{ty:?}")))?;
            let dims: Vec<_> = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
            Ok(TensorSpec::new(name, data_type, dims))
        }
        other => Err(refuse(format!("{other:?}"))),
    }
}
