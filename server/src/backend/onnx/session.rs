//! Creates a session on the first provider that works, and reports why others did not.

use std::path::Path;

use quintet_engine::Placement;
use quintet_onnxruntime::{one_line, stated_precision, stated_weights};

use super::{
    commit::{Built, commit, only_cpu},
    graphs::Device,
    handle::Handle,
    loaded::{LoadError, LoadOptions, LoadedSession, inputs, outputs},
    plugin,
    provider::Provider,
    shared, tensorrt,
    tuning::Tuning,
    versions,
};
use crate::{backend::gpu_work, observe::gpu};

/// Loads a model file on the first provider that works for it, tuned as its configuration says.
///
/// # Errors
/// When no provider works, or when the model has tensors of types that the protocol does not have.
pub fn load(path: &Path, options: &LoadOptions, tuning: &Tuning) -> Result<LoadedSession, LoadError> {
    let mut reasons: Vec<String> = Vec::new();
    for &provider in &options.providers {
        match with_graphs(path, provider, options, tuning) {
            Ok((session, graphs)) => {
                let nodes = session.nodes().to_vec();
                let effective = nodes.first().map_or_else(|| provider.name().to_owned(), |(name, _)| name.clone());
                let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
                let (precision, device) = match provider {
                    Provider::TensorRt => (tuning.tensorrt.precision(), None),
                    Provider::Cuda => (tuning.cuda.precision(), None),
                    Provider::Cpu => (None, None),
                    Provider::Plugin(it) => {
                        (plugin::precision(it, tuning), plugin::device(it, options.library, tuning))
                    }
                };
                // A provider on the CPU reads and writes the server's memory.
                let is_bound = provider != Provider::Cpu && device.as_ref().is_none_or(|device| device.kind != "CPU");
                // What the model file states is the lowest there is.
                let precision = stated_precision(&session).or_else(|| precision.map(str::to_owned));
                let gpu = match provider {
                    Provider::TensorRt | Provider::Cuda => gpu::name(tuning.device),
                    Provider::Cpu => None,
                    Provider::Plugin(_) => device.as_ref().filter(|it| it.kind == "GPU").map(|it| it.name.clone()),
                };
                let placement = Placement {
                    provider: effective,
                    nodes,
                    device,
                    precision,
                    reason,
                    gpu,
                    weights: stated_weights(&session),
                    threads: Some(tuning.intra_op_threads.unwrap_or(options.library.threads.intra_op_threads)),
                    software: versions::of_session(options.library, provider),
                };
                let inputs = inputs(path, &session)?;
                let (outputs, left_out) = outputs(path, &session)?;
                return Ok(LoadedSession { session, placement, is_bound, graphs, inputs, outputs, left_out });
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

/// A session that may record CUDA graphs, if the configuration asks for them and they are possible: the provider must
/// run the whole model, and only the CUDA provider keeps one graph for each shape of the inputs.
fn with_graphs(
    path: &Path,
    provider: Provider,
    options: &LoadOptions,
    tuning: &Tuning,
) -> ort::Result<(Handle, Option<Device>)> {
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
        tracing::warn!(path = %path.display(), reason, "CUDA graphs are not available");
        Ok((built, None))
    })
}

/// Builds a session completely: the commit may fail after a successful registration, and both may succeed without any
/// node on the provider.
fn build(path: &Path, provider: Provider, options: &LoadOptions, tuning: &Tuning) -> ort::Result<Handle> {
    let built = match provider {
        Provider::TensorRt => tensorrt::make(
            || tensorrt::prepare(path, tuning, options),
            |prepared| session(&prepared.file, provider, options, &prepared.tuning),
        ),
        Provider::Plugin(it) => plugin::build(path, it, options, tuning),
        Provider::Cuda => session(path, provider, options, tuning),
        Provider::Cpu => return shared::session(path, tuning, || session(path, provider, options, tuning)),
    };
    Ok(Handle::new(built?))
}

pub(super) fn session(path: &Path, provider: Provider, options: &LoadOptions, tuning: &Tuning) -> ort::Result<Built> {
    let _work = (provider != Provider::Cpu).then(gpu_work::shared);
    let mut builder = tuning.builder(options.library)?;
    if provider == Provider::Cpu {
        builder = only_cpu(builder, options.library)?;
    }
    commit(builder.with_execution_providers(provider.registrations(tuning))?, path, provider)
}
