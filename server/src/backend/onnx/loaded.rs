//! A loaded session, and how it is loaded.

use std::path::{Path, PathBuf};

use ort::{session::Session, value::ValueType};
use quintet_engine::{Placement, TensorSpec};
use quintet_onnxruntime::Loaded;

use super::{engine_cache::EngineCache, graphs::Device, provider::Provider, values};

/// How sessions are made.
#[derive(Clone)]
pub struct LoadOptions {
    /// ONNX Runtime, with the process's one environment, which owns the thread pool.
    pub library: &'static Loaded,
    /// Providers to try, in order.
    pub providers: Vec<Provider>,
    /// Where TensorRT keeps its engines, unless the model's configuration says where.
    pub engine_cache: Option<EngineCache>,
}

/// A model that ONNX Runtime cannot load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No provider works: what each said.
    #[error("cannot load {path}: {reasons}", path = path.display())]
    Session {
        /// The model file.
        path: PathBuf,
        /// One reason for each provider.
        reasons: String,
    },
    /// An input or an output that no request can carry.
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

/// A session with what the model file says of itself.
pub struct LoadedSession {
    pub(super) session: Session,
    pub(super) placement: Placement,
    /// Whether it is on a GPU, and its batches are bound before they are run.
    pub(super) is_bound: bool,
    /// Where it may record CUDA graphs.
    pub(super) graphs: Option<Device>,
    /// Inputs, those with a default behind the others; dimensions include the batch's.
    pub inputs: Vec<TensorSpec>,
    /// Outputs; dimensions include the batch's.
    pub outputs: Vec<TensorSpec>,
}

impl LoadedSession {
    /// Where the model really runs.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}

/// What a session takes. An input that the model has an initializer for may be left out; one of a type that no
/// request can carry is left at that.
pub(super) fn inputs(path: &Path, session: &Session) -> Result<Vec<TensorSpec>, LoadError> {
    let mut inputs = tensors(path, session.inputs())?;
    let defaults = session.overridable_initializers();
    let known = defaults.iter().filter_map(|it| tensor(path, it.name(), it.dtype()).ok());
    inputs.extend(known.map(|input| TensorSpec { optional: true, ..input }));
    Ok(inputs)
}

/// The tensors that outlets carry.
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
