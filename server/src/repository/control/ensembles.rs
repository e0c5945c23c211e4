//! Ensembles and their models: an ensemble loads its models with itself, and is checked again when one of them changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
};

use quintet_engine::InferError;
use tokio::sync::OwnedMutexGuard;

use super::{
    repository::{Entry, Repository},
    retire::retire,
    steps::steps,
};
use crate::repository::{
    folders::{find, is_name},
    overrides::Overrides,
    source::ModelSource,
};

impl Repository {
    /// Loads the models of an ensemble's steps, unless they are in service. `within` are the ensembles that it is a
    /// step of. The ensemble's own load reports problems of its steps.
    pub(super) fn load_steps<'a>(
        self: &'a Arc<Self>,
        name: &'a str,
        overrides: &'a Overrides,
        within: &'a [&'a str],
    ) -> Pin<Box<dyn Future<Output = Result<(), InferError>> + Send + 'a>> {
        Box::pin(async move {
            if !overrides.has_files() {
                self.fetch(name).await?;
            }
            let config = match overrides.config(name)? {
                Some(config) => Some(config),
                None => {
                    let (this, name) = (Arc::clone(self), name.to_owned());
                    let found = tokio::task::spawn_blocking(move || find(this.options.roots.folders(), &name, None));
                    let sources = found.await.map_err(InferError::internal)?.unwrap_or_default();
                    sources.into_iter().next().map(|source| source.config)
                }
            };
            let within = [within, &[name]].concat();
            for step in config.iter().flat_map(steps).filter(|step| is_name(&step.model_name)) {
                if within.contains(&step.model_name.as_str()) {
                    return Err(contains_itself(name, &[&within, &[step.model_name.as_str()][..]].concat()));
                }
                let none = Overrides::default();
                self.load_steps(&step.model_name, &none, &within).await?;
                let entry = self.entry(&step.model_name).lock_owned().await;
                let exists = self.options.roots.folders().iter().any(|root| root.join(&step.model_name).is_dir());
                if exists && self.catalog.registry().ready_versions(&step.model_name).is_empty() {
                    let _ = self.load_entry(&step.model_name, none, entry).await;
                    self.follow(&step.model_name, &[]).await;
                }
            }
            Ok(())
        })
    }

    /// Checks the ensembles that this model is a step of, then the ensembles that those are steps of, and so on.
    /// `after` are the models whose change led to this model's.
    pub(super) fn follow<'a>(
        self: &'a Arc<Self>,
        changed: &'a str,
        after: &'a [&'a str],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let after = [after, &[changed]].concat();
            let uses = |sources: &[ModelSource]| {
                sources.iter().flat_map(|source| steps(&source.config)).any(|step| step.model_name == changed)
            };
            let ensembles: Vec<_> = {
                let ensembles = self.ensembles.lock();
                let affected =
                    ensembles.iter().filter(|(name, sources)| !after.contains(&name.as_str()) && uses(sources));
                affected.map(|(name, _)| name.clone()).collect()
            };
            for name in ensembles {
                let entry = self.entry(&name).lock_owned().await;
                let (this, ensemble) = (Arc::clone(self), name.clone());
                let check = move || this.check_again(&ensemble, entry);
                if let Err(error) = tokio::task::spawn_blocking(check).await {
                    tracing::error!(%error, ensemble = name, "cannot check an ensemble again");
                }
                self.follow(&name, &after).await;
            }
        })
    }

    /// Replaces an ensemble whose models have changed, or takes it out of service if it does not fit them. The caller
    /// holds its lock.
    fn check_again(&self, name: &str, _entry: OwnedMutexGuard<Entry>) {
        let Some(sources) = self.ensembles.lock().get(name).cloned() else { return };
        let registry = self.catalog.registry();
        let is_current = |source: &ModelSource| {
            registry.resolve(name, Some(source.version)).is_ok_and(|ensemble| ensemble.is_current())
        };
        if sources.iter().all(is_current) {
            return;
        }
        let again = sources.iter().map(|source| {
            let loaded = self.options.loader.load(source, &self.catalog).map_err(|error| format!("{error:#}"));
            if let Err(reason) = &loaded {
                tracing::warn!(ensemble = name, reason, "an ensemble no longer fits its models");
            }
            (source.version, loaded)
        });
        for replaced in self.catalog.replace(name, again.collect()) {
            tokio::spawn(retire(replaced));
        }
    }
}

/// The error for a model that would call itself by way of its steps, with the names on that way.
pub(super) fn contains_itself(name: &str, ring: &[&str]) -> InferError {
    InferError::invalid(format_args!(
        "load failed for model '{name}': it is an ensemble that contains itself: {}",
        ring.join(" -> ")
    ))
}

/// The way from a model by way of its steps back to it, with it at both ends. `ensembles` are the others as they were
/// loaded, which is not always as they are on disk. `None` if there is no such way.
pub(super) fn ring<'a>(
    ensembles: &'a BTreeMap<String, Vec<ModelSource>>,
    name: &'a str,
    sources: &'a [ModelSource],
) -> Option<Vec<&'a str>> {
    let steps_of = |sources: &'a [ModelSource]| sources.iter().flat_map(|source| steps(&source.config));
    let mut ways: Vec<Vec<&str>> = steps_of(sources).map(|step| vec![name, step.model_name.as_str()]).collect();
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        if last == name {
            return Some(way);
        }
        if seen.insert(last) {
            let next = ensembles.get(last).into_iter().flat_map(|sources| steps_of(sources));
            ways.extend(next.map(|step| [&way[..], &[step.model_name.as_str()]].concat()));
        }
    }
    None
}
