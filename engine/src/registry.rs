//! The models of a service by name and version, and the state of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    error::{ErrorKind, InferError},
    model::Model,
};

/// State of one version of a model.
#[derive(Clone)]
pub enum VersionState {
    /// Being loaded and warmed.
    Loading,
    /// In service.
    Ready(Arc<Model>),
    /// Refuses new requests, answers those that it has.
    Draining,
    /// Not to be had, and why.
    Failed(String),
    /// Taken out of service because someone asked for it.
    Unloaded,
}

impl VersionState {
    /// The model, if it is in service.
    pub fn into_ready(self) -> Option<Arc<Model>> {
        match self {
            Self::Ready(model) => Some(model),
            _ => None,
        }
    }
}

/// The models of a service. All methods are short: nothing waits for a load.
#[derive(Default)]
pub struct Registry {
    models: RwLock<HashMap<String, BTreeMap<u64, VersionState>>>,
}

impl Registry {
    /// Sets the state of a version.
    pub fn set(&self, name: &str, version: u64, state: VersionState) {
        self.models.write().entry(name.to_owned()).or_default().insert(version, state);
    }

    /// Sets the states of all versions of a model at once: no request sees some old and some new. Returns
    /// the models that were in service; requests that have found them already are still theirs.
    pub fn replace(&self, name: &str, versions: BTreeMap<u64, VersionState>) -> Vec<Arc<Model>> {
        let before = self.models.write().insert(name.to_owned(), versions).unwrap_or_default();
        before.into_values().filter_map(VersionState::into_ready).collect()
    }

    /// The versions of a model that are in service, ascending.
    pub fn ready_versions(&self, name: &str) -> Vec<u64> {
        let models = self.models.read();
        let ready =
            |(version, state): (&u64, &VersionState)| matches!(state, VersionState::Ready(_)).then_some(*version);
        models.get(name).into_iter().flatten().filter_map(ready).collect()
    }

    /// The ready version asked for, or the latest ready one.
    ///
    /// # Errors
    /// With Triton's words: [`ErrorKind::NotFound`] where there is no such version or, none being named, none is
    /// ready; [`ErrorKind::Unavailable`] for a named version that is not ready, and while the model is shut down.
    pub fn resolve(&self, name: &str, version: Option<u64>) -> Result<Arc<Model>, InferError> {
        let models = self.models.read();
        let unknown = || {
            let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
            InferError::new(
                ErrorKind::NotFound,
                format_args!("Request for unknown model: '{name}'{version} is not found"),
            )
        };
        let versions = models.get(name).ok_or_else(unknown)?;
        let state = match version {
            Some(version) => versions.get(&version),
            None => {
                let ready = versions.values().rev().find(|state| matches!(state, VersionState::Ready(_)));
                ready.or_else(|| versions.values().next_back())
            }
        };
        let state = state.ok_or_else(unknown)?;
        let why = match state {
            VersionState::Ready(model) => return Ok(Arc::clone(model)),
            VersionState::Loading => ": it is loading",
            VersionState::Draining => ": it is shutting down",
            VersionState::Failed(reason) => &format!(": {reason}"),
            VersionState::Unloaded => "",
        };
        // Triton's difference: what was named is there but not ready, of what was not named there is none.
        let what = match version {
            Some(version) => format!("'{name}' version {version} is not at ready state"),
            None => format!("'{name}' has no available versions"),
        };
        // A server that ends is to be told from one that never had the model.
        let kind = match (version, state) {
            (None, VersionState::Loading | VersionState::Failed(_) | VersionState::Unloaded) => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Err(InferError::new(kind, format_args!("Request for unknown model: {what}{why}")))
    }

    /// Every version with its state, by name, then version.
    pub fn index(&self) -> Vec<(String, u64, VersionState)> {
        let models = self.models.read();
        let mut index: Vec<_> = models
            .iter()
            .flat_map(|(name, versions)| {
                versions.iter().map(move |(version, state)| (name.clone(), *version, state.clone()))
            })
            .collect();
        index.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        index
    }

    /// The models in service.
    pub fn ready_models(&self) -> Vec<Arc<Model>> {
        self.index().into_iter().filter_map(|(_, _, state)| state.into_ready()).collect()
    }

    /// Whether there is a model and all of them are in service, but for those that were unloaded.
    pub fn is_ready(&self) -> bool {
        !self.models.read().is_empty() && self.are_all_ready()
    }

    /// Whether all models there are are in service, but for those that were unloaded.
    pub fn are_all_ready(&self) -> bool {
        let models = self.models.read();
        let mut states = models.values().flat_map(BTreeMap::values);
        states.all(|state| matches!(state, VersionState::Ready(_) | VersionState::Unloaded))
    }

    /// Refuses new requests everywhere and answers those that were accepted. Blocks until then.
    pub fn drain(&self) {
        let models: Vec<_> = {
            let mut models = self.models.write();
            let states = models.values_mut().flat_map(BTreeMap::values_mut);
            states.map(|state| std::mem::replace(state, VersionState::Draining)).collect()
        };
        let models: Vec<_> = models.into_iter().filter_map(VersionState::into_ready).collect();
        // Those that are made of others need these until they are done.
        models.iter().for_each(|model| model.finish_steps());
        models.iter().for_each(|model| model.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_ready_is_named() {
        let registry = Registry::default();
        registry.set("m", 1, VersionState::Failed("no file".into()));
        registry.set("m", 2, VersionState::Loading);
        registry.set("m", 0, VersionState::Unloaded);
        let refusal = |version| registry.resolve("m", version).err().unwrap();
        let told = |version| refusal(version).to_string();
        assert_eq!(told(Some(1)), "Request for unknown model: 'm' version 1 is not at ready state: no file");
        assert_eq!(told(None), "Request for unknown model: 'm' has no available versions: it is loading");
        assert_eq!(told(Some(3)), "Request for unknown model: 'm' version 3 is not found");
        use ErrorKind::{NotFound, Unavailable};
        let kinds = [None, Some(1), Some(2), Some(3), Some(0)].map(|version| refusal(version).kind());
        assert_eq!(kinds, [NotFound, Unavailable, Unavailable, NotFound, Unavailable]);
    }
}
