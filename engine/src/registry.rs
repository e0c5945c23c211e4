//! The models of a service by name and version, and the state of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    error::{LookupError, NotReady},
    model::Model,
};

/// State of one version of a model.
#[derive(Clone)]
pub enum VersionState {
    /// Being loaded and warmed.
    Loading,
    /// In service.
    Ready(Arc<Model>),
    /// Refuses new requests, and answers those that it has.
    Draining,
    /// Not loaded, with the reason.
    Failed(String),
    /// Taken out of service by a client.
    Unloaded,
    /// Out of service because its device failed, with the reason.
    DeviceLost(String),
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

/// The models of a service. No method but [`drain`](Self::drain) blocks.
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
    /// the models that were in service, which still answer the requests that have resolved them before.
    pub fn replace(&self, name: &str, versions: BTreeMap<u64, VersionState>) -> Vec<Arc<Model>> {
        let before = self.models.write().insert(name.to_owned(), versions).unwrap_or_default();
        before.into_values().filter_map(VersionState::into_ready).collect()
    }

    /// Takes the models that `lost` selects out of service for this reason, and returns them.
    pub fn lose_device(&self, reason: &str, lost: impl Fn(&Model) -> bool) -> Vec<Arc<Model>> {
        let mut models = self.models.write();
        let states = models.values_mut().flat_map(BTreeMap::values_mut);
        let states = states.filter(|state| matches!(state, VersionState::Ready(model) if lost(model)));
        let before = states.map(|state| std::mem::replace(state, VersionState::DeviceLost(reason.to_owned())));
        before.filter_map(VersionState::into_ready).collect()
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
    /// When there is none.
    pub fn resolve(&self, name: &str, version: Option<u64>) -> Result<Arc<Model>, Box<LookupError>> {
        let models = self.models.read();
        let state = models.get(name).and_then(|versions| match version {
            Some(version) => versions.get(&version),
            None => {
                let ready = versions.values().rev().find(|state| matches!(state, VersionState::Ready(_)));
                ready.or_else(|| versions.values().next_back())
            }
        });
        let reason = match state {
            Some(VersionState::Ready(model)) => return Ok(Arc::clone(model)),
            None => NotReady::Unknown,
            Some(VersionState::Loading) => NotReady::Loading,
            Some(VersionState::Draining) => NotReady::ShuttingDown,
            Some(VersionState::Failed(reason)) => NotReady::Failed(reason.clone()),
            Some(VersionState::Unloaded) => NotReady::Unloaded,
            Some(VersionState::DeviceLost(reason)) => NotReady::DeviceLost(reason.clone()),
        };
        Err(Box::new(LookupError { model: name.to_owned(), version, reason }))
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

    /// Whether there are models and all of them, except unloaded ones, are in service.
    pub fn is_ready(&self) -> bool {
        !self.models.read().is_empty() && self.are_all_ready()
    }

    /// Whether all models, except unloaded ones, are in service.
    pub fn are_all_ready(&self) -> bool {
        let models = self.models.read();
        let mut states = models.values().flat_map(BTreeMap::values);
        states.all(|state| matches!(state, VersionState::Ready(_) | VersionState::Unloaded))
    }

    /// Refuses new requests to all models, and blocks until the accepted ones are answered.
    pub fn drain(&self) {
        let models: Vec<_> = {
            let mut models = self.models.write();
            let states = models.values_mut().flat_map(BTreeMap::values_mut);
            states.map(|state| std::mem::replace(state, VersionState::Draining)).collect()
        };
        let models: Vec<_> = models.into_iter().filter_map(VersionState::into_ready).collect();
        // Composites call other models until their own requests are done.
        models.iter().for_each(|model| model.wait_for_steps());
        models.iter().for_each(|model| model.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_why_a_version_is_not_ready_is_returned() {
        let registry = Registry::default();
        registry.set("m", 1, VersionState::Failed("no file".into()));
        registry.set("m", 2, VersionState::Loading);
        registry.set("m", 0, VersionState::Unloaded);
        for (version, reason) in [
            (None, NotReady::Loading),
            (Some(0), NotReady::Unloaded),
            (Some(1), NotReady::Failed("no file".into())),
            (Some(2), NotReady::Loading),
            (Some(3), NotReady::Unknown),
        ] {
            let error = registry.resolve("m", version).err().unwrap();
            assert_eq!(*error, LookupError { model: "m".into(), version, reason });
        }
        let error = registry.resolve("m", Some(2)).err().unwrap();
        assert_eq!(error.to_string(), "model 'm' version 2: loading");
    }
}
