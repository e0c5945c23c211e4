//! Loading and unloading of models: at the start, and on requests of clients.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use quintet_engine::{InferError, Model, VersionState};
use quintet_proto::inference::ModelConfig;
use tempfile::TempDir;
use tokio::{sync::OwnedMutexGuard, task::JoinSet};

use super::{
    ensembles::{contains_itself, ring},
    repository::{Entry, Repository},
    retire::retire,
    steps::{steps, steps_of},
};
use crate::repository::{
    error::RepositoryError,
    fingerprint::Fingerprint,
    folders::{find, find_in, is_name, model_folders, versions_on_disk, warn_of_versions},
    overrides::{FILE_PREFIX, Overrides},
    source::ModelSource,
    wire,
};

/// The versions to load, and the folder of files from the load request.
type Found = (Vec<ModelSource>, Option<TempDir>);
/// Why there are none, and the folder.
type NotFound = (RepositoryError, Option<TempDir>);

/// An error that names files of a load request as the client did: their folder is not there any more when it is read.
fn within_request(error: String, files: Option<&TempDir>) -> String {
    let Some(folder) = files else { return error };
    error
        .replace(&format!("{}/", folder.path().display()), FILE_PREFIX)
        .replace(&*folder.path().to_string_lossy(), "the load request")
}

impl Repository {
    /// Loads these models in parallel. Returns those that failed, with the reason.
    pub async fn start(self: &Arc<Self>, names: &[String]) -> Vec<(String, InferError)> {
        self.warn_of_junk().await;
        let failed = self.load_all(names).await;
        self.started.store(true, Relaxed);
        failed
    }

    /// Logs the folders that are no models.
    async fn warn_of_junk(&self) {
        let roots = self.options.roots.folders().to_owned();
        // A repository that cannot be read is an error elsewhere.
        let found = tokio::task::spawn_blocking(move || model_folders(&roots)).await;
        for (folder, reason) in found.ok().and_then(Result::ok).unwrap_or_default().skipped {
            let service = self.catalog.name().as_str();
            tracing::warn!(service, folder = ?folder, reason, "a folder of the repository is skipped");
        }
    }

    pub(super) async fn load_all(self: &Arc<Self>, names: &[String]) -> Vec<(String, InferError)> {
        let mut loads = JoinSet::new();
        for name in names {
            let (this, name) = (Arc::clone(self), name.clone());
            loads.spawn(async move {
                let loaded = this.load_model(&name, Overrides::default()).await;
                loaded.err().map(|error| (name, error))
            });
        }
        let mut failed: Vec<_> = loads.join_all().await.into_iter().flatten().collect();
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        failed
    }

    /// Loads or reloads a model for a client. The load goes on to its end if the client leaves, that is, if the future is
    /// dropped.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::Unavailable`] unless the mode is explicit;
    /// [`quintet_engine::ErrorKind::Internal`] with Triton's message when the load fails;
    /// [`quintet_engine::ErrorKind::InvalidInput`] for invalid overrides.
    pub async fn load(self: &Arc<Self>, name: &str, overrides: Overrides) -> Result<(), InferError> {
        self.allow_control()?;
        let (this, name) = (Arc::clone(self), name.to_owned());
        let load = async move { this.load_model(&name, overrides).await };
        tokio::spawn(load).await.map_err(InferError::internal)?
    }

    /// Unloads a model for a client, with `dependents` also the models of an ensemble's steps. Unloading a model that
    /// is not loaded has no effect. As a load, it goes on to its end if the client leaves.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::Unavailable`] unless the mode is explicit.
    pub async fn unload(self: &Arc<Self>, name: &str, dependents: bool) -> Result<(), InferError> {
        self.allow_control()?;
        let steps = if dependents { steps_of(&self.catalog, name) } else { Vec::new() };
        let (this, name) = (Arc::clone(self), name.to_owned());
        let unload = async move {
            for name in [name].into_iter().chain(steps) {
                this.unload_model(&name).await;
            }
        };
        tokio::spawn(unload).await.map_err(InferError::internal)
    }

    pub(super) async fn load_model(self: &Arc<Self>, name: &str, overrides: Overrides) -> Result<(), InferError> {
        let unknown =
            || InferError::internal(format_args!("failed to load '{name}', failed to poll from model repository"));
        if !is_name(name) {
            return Err(unknown());
        }
        self.load_steps(name, &overrides, &[]).await?;
        if !overrides.has_files() && self.options.roots.folders().iter().all(|root| !root.join(name).is_dir()) {
            return Err(unknown());
        }
        let entry = self.entry(name).lock_owned().await;
        let loaded = self.load_entry(name, overrides, entry).await;
        self.follow(name, &[]).await;
        loaded
    }

    /// Copies a model that is about to be loaded, if it is in an object store and was not copied with all others.
    pub(super) async fn fetch(&self, name: &str) -> Result<(), InferError> {
        self.options.roots.fetch(name).await.map_err(|error| {
            InferError::internal(format_args!("failed to load '{name}', failed to poll from model repository: {error}"))
        })
    }

    /// Loads a model whose lock is held.
    pub(super) async fn load_entry(
        self: &Arc<Self>,
        name: &str,
        overrides: Overrides,
        entry: OwnedMutexGuard<Entry>,
    ) -> Result<(), InferError> {
        // The semaphore is never closed.
        let _permit = self.loads.acquire().await;
        let (this, name) = (Arc::clone(self), name.to_owned());
        let load = move || this.load_blocking(&name, overrides, entry);
        tokio::task::spawn_blocking(load).await.map_err(InferError::internal)?
    }

    fn load_blocking(
        &self,
        name: &str,
        overrides: Overrides,
        mut entry: OwnedMutexGuard<Entry>,
    ) -> Result<(), InferError> {
        let registry = self.catalog.registry();
        let serves = !registry.ready_versions(name).is_empty();
        entry.fingerprint = Some(Fingerprint::of(self.options.roots.folders(), name));
        let (sources, files) = match self.sources(name, overrides)? {
            Ok(found) => found,
            Err((error, files)) => {
                let error = within_request(error.to_string(), files.as_ref());
                if !serves {
                    let versions = versions_on_disk(self.options.roots.folders(), name);
                    let version = versions.last().copied().unwrap_or(1);
                    let failed = BTreeMap::from([(version, VersionState::Failed(error.clone()))]);
                    registry.replace(name, failed);
                    self.ensembles.lock().remove(name);
                }
                return Err(InferError::internal(format_args!(
                    "failed to load '{name}', failed to poll from model repository: {error}"
                )));
            }
        };
        sources.first().into_iter().for_each(warn_of_versions);
        if !serves {
            let loading = sources.iter().map(|source| (source.version, VersionState::Loading)).collect();
            registry.replace(name, loading);
        }
        let mut reasons = String::new();
        let mut loaded = Vec::new();
        for source in &sources {
            let outcome = self.load_version(source);
            let outcome = outcome.map_err(|error| within_request(format!("{error:#}"), files.as_ref()));
            if let Err(reason) = &outcome {
                reasons.push_str(&format!("version {} is at UNAVAILABLE state: {reason};", source.version));
            }
            loaded.push((source.version, outcome));
        }
        if reasons.is_empty() || !serves {
            let is_ensemble = sources.iter().any(|source| !steps(&source.config).is_empty());
            let mut ensembles = self.ensembles.lock();
            let closes_ring = ring(&ensembles, name, &sources).map(|ring| contains_itself(name, &ring));
            if let Some(error) = closes_ring {
                drop(ensembles);
                if !serves {
                    let failed = |source: &ModelSource| (source.version, VersionState::Failed(error.to_string()));
                    registry.replace(name, sources.iter().map(failed).collect());
                }
                return Err(error);
            }
            let _ = if is_ensemble { ensembles.insert(name.to_owned(), sources) } else { ensembles.remove(name) };
            drop(ensembles);
            for replaced in self.catalog.replace(name, loaded) {
                tokio::spawn(retire(replaced));
            }
            entry.override_files = files;
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(InferError::internal(format_args!("load failed for model '{name}': {reasons}")))
    }

    /// Loads a version, again if that fails, as often as the options say.
    fn load_version(&self, source: &ModelSource) -> anyhow::Result<(Model, ModelConfig)> {
        let mut left = self.options.load_retries;
        loop {
            let loaded = self.options.loader.load(source, &self.catalog);
            let error = match loaded {
                Err(error) if left > 0 && self.catalog.gpu_fault().reason().is_none() => error,
                outcome => return outcome,
            };
            let (model, version, reason) = (&source.name, source.version, format!("{error:#}"));
            tracing::warn!(model, version, reason, left, "cannot load a model; trying again");
            left -= 1;
        }
    }

    /// The versions to load, and the folder of files from the request. The outer error is the request's, the inner one
    /// the repository's.
    fn sources(&self, name: &str, overrides: Overrides) -> Result<Result<Found, NotFound>, InferError> {
        let config = overrides.config(name)?;
        if let Some(config) = config.as_ref().filter(|_| overrides.has_files()) {
            wire::check_files(config)
                .map_err(|error| InferError::invalid(format_args!("failed to load '{name}': {error}")))?;
        }
        let files = overrides.write_files(name)?;
        if let Some(config) = &config {
            let roots = self.options.roots.folders();
            let in_repository = || roots.iter().map(|root| root.join(name)).find(|folder| folder.is_dir());
            let folder = files.as_ref().map(|folder| folder.path().to_owned()).or_else(in_repository);
            let own = wire::own_config(roots, name);
            wire::check(config, own.as_ref(), &folder.unwrap_or_default())
                .map_err(|error| InferError::invalid(format_args!("failed to load '{name}': config: {error}")))?;
        }
        let found = match &files {
            Some(folder) => find_in(folder.path(), name, config),
            None => find(self.options.roots.folders(), name, config),
        };
        Ok(match found {
            Ok(sources) => Ok((sources, files)),
            Err(error) => Err((error, files)),
        })
    }

    pub(super) async fn unload_model(self: &Arc<Self>, name: &str) {
        // A model that was never loaded has no entry, and gets none: a client may name any number of models.
        let known = self.entries.lock().get(name).cloned();
        let mut entry = match known {
            Some(entry) => Some(entry.lock_owned().await),
            None => None,
        };
        self.ensembles.lock().remove(name);
        for model in self.catalog.unload(name) {
            tokio::spawn(retire(model));
        }
        if let Some(entry) = &mut entry {
            **entry = Entry::default();
        }
        drop(entry);
        self.follow(name, &[]).await;
    }
}
