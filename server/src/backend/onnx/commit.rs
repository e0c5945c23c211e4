//! The last steps of every session's builder: its CPU provider alone, and the session with its nodes.

use std::path::Path;

use ort::session::{Session, builder::SessionBuilder};
use quintet_onnxruntime::{Loaded, RECORD_ASSIGNMENT, nodes_by_provider};

use super::provider::Provider;

/// A session, and the number of its nodes on each provider, largest first.
pub(super) type Built = (Session, Vec<(String, usize)>);

/// A builder for sessions on ONNX Runtime's own CPU provider: where others are registered, it would choose among them all.
///
/// # Errors
/// When ONNX Runtime does not take the provider.
pub(super) fn only_cpu(builder: SessionBuilder, library: &'static Loaded) -> ort::Result<SessionBuilder> {
    if !library.has_plugins() {
        return Ok(builder);
    }
    let devices = library.devices().into_iter().filter(|device| device.provider == Provider::Cpu.name());
    Ok(builder.with_devices(devices.map(|listed| listed.device), None)?)
}

/// The session of a builder that has its providers.
///
/// # Errors
/// When ONNX Runtime cannot make it, or the provider runs none of its nodes.
pub(super) fn commit(builder: SessionBuilder, path: &Path, provider: Provider) -> ort::Result<Built> {
    let session = builder.with_config_entry(RECORD_ASSIGNMENT, "1")?.commit_from_file(path)?;
    let nodes = nodes_by_provider(&session)?;
    if !nodes.is_empty() && nodes.iter().all(|(name, _)| name != provider.name()) {
        return Err(ort::Error::new("the provider runs no node of the model"));
    }
    Ok((session, nodes))
}
