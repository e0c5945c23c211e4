//! The index of a repository: every version of every model with its state.

use quintet_engine::VersionState;

use crate::catalog::Catalog;

/// A model of the index. A model that is only on disk has only a name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct IndexEntry {
    /// Name of the model.
    pub name: String,
    /// Version, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The models in service.
pub fn index_of(catalog: &Catalog, ready_only: bool) -> Vec<IndexEntry> {
    let entries = catalog.registry().index().into_iter().map(|(name, version, state)| {
        let (state, reason) = match state {
            VersionState::Ready(_) => ("READY", None),
            VersionState::Loading => ("LOADING", None),
            VersionState::Draining => ("UNLOADING", None),
            VersionState::Failed(reason) | VersionState::DeviceLost(reason) => ("UNAVAILABLE", Some(reason)),
            VersionState::Unloaded => ("UNAVAILABLE", Some("unloaded".to_owned())),
        };
        IndexEntry { name, version: Some(version.to_string()), state: Some(state), reason }
    });
    entries.filter(|entry| !ready_only || entry.state == Some("READY")).collect()
}
