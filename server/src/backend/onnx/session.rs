//! Sessions on the first provider that works, with the reasons why others did not.

use std::path::{Path, PathBuf};

use ort::{session::Session, value::ValueType};
use quintet_engine::{Instance, Placement, TensorSpec};
use quintet_onnxruntime::{Loaded, RECORD_ASSIGNMENT, nodes_by_provider, one_line};

use super::{
    engine_cache::EngineCache, graphs::Device, instance::OnnxInstance, provider::Provider, tensorrt, tuning::Tuning,
    values,
};
use crate::backend::gpu_work;

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

    /// An instance that runs the session. `outputs` are the names of the outputs in the order of the
    /// model's configuration, which may leave some out; `inputs` likewise.
    pub fn into_instance(self, inputs: Vec<String>, outputs: Vec<String>) -> Box<dyn Instance> {
        Box::new(self.instance(inputs, outputs))
    }

    pub(super) fn instance(self, inputs: Vec<String>, outputs: Vec<String>) -> OnnxInstance {
        OnnxInstance::new(self, inputs, outputs)
    }
}

/// Loads a model file on the first of the providers that takes it, tuned as its configuration says.
///
/// # Errors
/// When none does, or when the model has tensors of types that the protocol does not have.
pub fn load(path: &Path, options: &LoadOptions, tuning: &Tuning) -> Result<LoadedSession, LoadError> {
    let mut reasons: Vec<String> = Vec::new();
    for &provider in &options.providers {
        match with_graphs(path, provider, options, tuning) {
            Ok(((session, nodes), graphs)) => {
                let effective = nodes.first().map_or_else(|| provider.name().to_owned(), |(name, _)| name.clone());
                let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
                let precision = match provider {
                    Provider::TensorRt => tuning.tensorrt.precision(),
                    Provider::Cuda => tuning.cuda.precision(),
                    Provider::Cpu => None,
                };
                let precision = precision.map(str::to_owned);
                let placement = Placement { provider: effective, nodes, precision, reason };
                let inputs = inputs(path, &session)?;
                let outputs = tensors(path, session.outputs())?;
                let is_bound = provider != Provider::Cpu;
                return Ok(LoadedSession { session, placement, is_bound, graphs, inputs, outputs });
            }
            Err(error) => {
                let reason = one_line(error.message());
                tracing::debug!(path = %path.display(), %provider, reason, "provider does not work");
                reasons.push(format!("{provider}: {reason}"));
            }
        }
    }
    Err(LoadError::Session { path: path.to_owned(), reasons: reasons.join("; ") })
}

/// A session, and how many of its nodes each provider runs, most first.
pub(super) type Built = (Session, Vec<(String, usize)>);

/// A session that may record CUDA graphs if the configuration wants them and it can: the provider must run all of the
/// model, and only CUDA's keeps graphs apart by the shape of what they were recorded with.
fn with_graphs(
    path: &Path,
    provider: Provider,
    options: &LoadOptions,
    tuning: &Tuning,
) -> ort::Result<(Built, Option<Device>)> {
    let without = Tuning { cuda: tuning.cuda.without_graphs(), ..tuning.clone() };
    if provider != Provider::Cuda || without == *tuning {
        return Ok((build(path, provider, options, &without)?, None));
    }
    let device = Device::gpu(options.library, tuning.device).map_err(|reason| one_line(&reason));
    let attempt = device.and_then(|device| match build(path, provider, options, tuning) {
        Ok(built) => Ok((built, Some(device))),
        Err(error) => Err(one_line(error.message())),
    });
    attempt.or_else(|reason| {
        let built = build(path, provider, options, &without)?;
        tracing::warn!(path = %path.display(), reason, "no CUDA graphs");
        Ok((built, None))
    })
}

/// The whole build of a session: registration may succeed where the commit fails, and both where no node
/// is left to the provider.
fn build(path: &Path, provider: Provider, options: &LoadOptions, tuning: &Tuning) -> ort::Result<Built> {
    if provider != Provider::TensorRt {
        return session(path, provider, options, tuning);
    }
    tensorrt::make(
        || tensorrt::prepare(path, tuning, options),
        |prepared| session(&prepared.file, provider, options, &prepared.tuning),
    )
}

pub(super) fn session(path: &Path, provider: Provider, options: &LoadOptions, tuning: &Tuning) -> ort::Result<Built> {
    let _work = (provider != Provider::Cpu).then(gpu_work::shared);
    let session = tuning
        .apply(Session::builder(&options.library.environment)?)?
        .with_execution_providers(provider.registrations(tuning))?
        .with_config_entry(RECORD_ASSIGNMENT, "1")?
        .commit_from_file(path)?;
    let nodes = nodes_by_provider(&session)?;
    if !nodes.is_empty() && nodes.iter().all(|(name, _)| name != provider.name()) {
        return Err(ort::Error::new("it takes no node of the model"));
    }
    Ok((session, nodes))
}

/// What a session takes. An input that the model has an initializer for may be left out; one of a type that no
/// request can carry is left at that.
fn inputs(path: &Path, session: &Session) -> Result<Vec<TensorSpec>, LoadError> {
    let mut inputs = tensors(path, session.inputs())?;
    let defaults = session.overridable_initializers();
    let known = defaults.iter().filter_map(|it| tensor(path, it.name(), it.dtype()).ok());
    inputs.extend(known.map(|input| TensorSpec { optional: true, ..input }));
    Ok(inputs)
}

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
