//! The model repository in service: what is loaded when, and what clients may change about it.
//!
//! Loads run side by side, those of one model one after the other. A load is atomic: the versions that
//! are in service stay until the new ones are warm, and for good if these fail. An ensemble follows its models: when one
//! of them changes it is checked again, and is not ready for as long as it does not fit.

mod ensembles;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quintet_engine::{ErrorKind, InferError, Model, VersionState};
use tempfile::TempDir;
use tokio::{
    sync::{OwnedMutexGuard, Semaphore},
    task::JoinSet,
};

use self::ensembles::{steps, steps_of};
use super::{
    ModelSource, RepositoryError, find, find_in, fingerprint::Fingerprint, loader::Loader, overrides::Overrides,
    versions_on_disk,
};
use crate::service::Service;

/// Who says what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is there at the start, and nothing changes.
    None,
    /// What is there, looked for at this interval.
    Poll(Duration),
    /// Clients, by load and unload requests.
    Explicit,
}

/// How a repository is served.
pub struct Options {
    /// The folders with models.
    pub roots: Vec<PathBuf>,
    /// Who says what is loaded.
    pub mode: Mode,
    /// How models are loaded.
    pub loader: Loader,
    /// Models that load at the same time at most.
    pub loads_at_once: usize,
    /// Whether one model that is not ready makes the server not ready.
    pub strict_readiness: bool,
}

/// A model of the index. What is only known to be on disk has a name and nothing else.
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
    /// Why it is in no better state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is remembered of one model; whoever holds its lock may load or unload it.
#[derive(Default)]
struct Entry {
    /// The folder's files when it was last loaded, or tried to be.
    fingerprint: Option<Fingerprint>,
    /// Files that a load request brought.
    override_files: Option<TempDir>,
}

/// The repository of one service.
pub struct Repository {
    options: Options,
    loads: Semaphore,
    started: AtomicBool,
    entries: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
    /// The ensembles that are in service, or would be if they fitted their models.
    ensembles: Mutex<BTreeMap<String, Vec<ModelSource>>>,
}

/// The versions to load, and the folder of files that came along.
type Found = (Vec<ModelSource>, Option<TempDir>);

/// How often it is looked whether the last request of a replaced model has gone.
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);

impl Repository {
    /// A repository of which nothing is loaded yet.
    pub fn new(options: Options) -> Self {
        let loads = Semaphore::new(options.loads_at_once.max(1));
        Self { options, loads, started: AtomicBool::new(false), entries: Mutex::default(), ensembles: Mutex::default() }
    }

    /// Whether the models of the start are loaded, or have failed to.
    pub fn has_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// Whether clients may load and unload models.
    pub fn is_controlled(&self) -> bool {
        self.options.mode == Mode::Explicit
    }

    /// Whether one model that is not ready makes the server not ready.
    pub fn strict_readiness(&self) -> bool {
        self.options.strict_readiness
    }

    /// The names of the models in the folders.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn names_on_disk(&self) -> Result<Vec<String>, RepositoryError> {
        super::model_names(&self.options.roots)
    }

    /// Loads these models side by side. Returns those that failed, with the reason.
    pub async fn start(self: &Arc<Self>, service: &Arc<Service>, names: &[String]) -> Vec<(String, InferError)> {
        let failed = self.load_all(service, names).await;
        self.started.store(true, Relaxed);
        failed
    }

    async fn load_all(self: &Arc<Self>, service: &Arc<Service>, names: &[String]) -> Vec<(String, InferError)> {
        let mut loads = JoinSet::new();
        for name in names {
            let (this, service, name) = (Arc::clone(self), Arc::clone(service), name.clone());
            loads.spawn(async move {
                let loaded = this.load_model(&service, &name, Overrides::default()).await;
                loaded.err().map(|error| (name, error))
            });
        }
        let mut failed: Vec<_> = loads.join_all().await.into_iter().flatten().collect();
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        failed
    }

    /// Loads a model, or loads it anew, because a client asks for it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] unless the mode is explicit, [`ErrorKind::Internal`] in Triton's words when
    /// the load fails; [`ErrorKind::InvalidInput`] for overrides that are wrong in themselves.
    pub async fn load(
        self: &Arc<Self>,
        service: &Arc<Service>,
        name: &str,
        overrides: Overrides,
    ) -> Result<(), InferError> {
        self.allow_control()?;
        self.load_model(service, name, overrides).await
    }

    /// Takes a model out of service because a client asks for it; `dependents` are the models that an
    /// ensemble is made of. A model that is not there is out of service already.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] unless the mode is explicit.
    pub async fn unload(
        self: &Arc<Self>,
        service: &Arc<Service>,
        name: &str,
        dependents: bool,
    ) -> Result<(), InferError> {
        self.allow_control()?;
        let steps = if dependents { steps_of(service, name) } else { Vec::new() };
        for name in [name.to_owned()].into_iter().chain(steps) {
            self.unload_model(service, &name).await;
        }
        Ok(())
    }

    fn allow_control(&self) -> Result<(), InferError> {
        if self.is_controlled() { Ok(()) } else { Err(not_controlled()) }
    }

    /// Every version of every model with its state, and the models that are only on disk.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a folder cannot be read.
    pub fn index(&self, service: &Service, ready_only: bool) -> Result<Vec<IndexEntry>, InferError> {
        let mut index = index_of(service, ready_only);
        if !ready_only {
            for name in self.names_on_disk().map_err(InferError::internal)? {
                if index.iter().all(|entry| entry.name != name) {
                    index.push(IndexEntry { name, version: None, state: None, reason: None });
                }
            }
            index.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(index)
    }

    /// Looks for changes at the mode's interval, for ever; at once done in other modes.
    pub async fn poll(self: Arc<Self>, service: Arc<Service>) {
        let Mode::Poll(interval) = self.options.mode else { return };
        loop {
            tokio::time::sleep(interval).await;
            self.poll_once(&service).await;
        }
    }

    /// Loads what is new or has changed on disk, unloads what is gone.
    pub async fn poll_once(self: &Arc<Self>, service: &Arc<Service>) {
        let this = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let names = this.names_on_disk()?;
            Ok(names.into_iter().map(|name| (Fingerprint::of(&this.options.roots, &name), name)).collect::<Vec<_>>())
        });
        let on_disk = match looked.await {
            Ok(Ok(on_disk)) => on_disk,
            Ok(Err(error)) => {
                let error: RepositoryError = error;
                return tracing::warn!(%error, "cannot look for changes in the repository");
            }
            Err(error) => return tracing::error!(%error, "cannot look for changes in the repository"),
        };
        let known: Vec<_> = self.entries.lock().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect();
        for (name, entry) in &known {
            // The lock is never held across this loop: loads of other tasks end.
            let mut entry = entry.lock().await;
            if on_disk.iter().all(|(_, there)| there != name) && entry.fingerprint.take().is_some() {
                drop(entry);
                tracing::info!(service = service.name().as_str(), model = name, "gone from the repository");
                self.unload_model(service, name).await;
            }
        }
        let mut changed = Vec::new();
        for (fingerprint, name) in on_disk {
            let entry = self.entry(&name).lock_owned().await;
            if entry.fingerprint.as_ref() != Some(&fingerprint) {
                changed.push(name);
            }
        }
        for (model, error) in self.load_all(service, &changed).await {
            tracing::error!(model, %error, "a changed model cannot be loaded");
        }
    }

    fn entry(&self, name: &str) -> Arc<tokio::sync::Mutex<Entry>> {
        Arc::clone(self.entries.lock().entry(name.to_owned()).or_default())
    }

    async fn load_model(
        self: &Arc<Self>,
        service: &Arc<Service>,
        name: &str,
        overrides: Overrides,
    ) -> Result<(), InferError> {
        let unknown =
            || InferError::internal(format_args!("failed to load '{name}', failed to poll from model repository"));
        if !is_name(name) {
            return Err(unknown());
        }
        self.load_steps(service, name, &overrides, &[]).await?;
        if !overrides.has_files() && self.options.roots.iter().all(|root| !root.join(name).is_dir()) {
            return Err(unknown());
        }
        let entry = self.entry(name).lock_owned().await;
        let loaded = self.load_entry(service, name, overrides, entry).await;
        self.follow(service, name, &[]).await;
        loaded
    }

    /// Loads a model whose lock is held.
    async fn load_entry(
        self: &Arc<Self>,
        service: &Arc<Service>,
        name: &str,
        overrides: Overrides,
        entry: OwnedMutexGuard<Entry>,
    ) -> Result<(), InferError> {
        // The semaphore is never closed.
        let _permit = self.loads.acquire().await;
        let (this, service, name) = (Arc::clone(self), Arc::clone(service), name.to_owned());
        let load = move || this.load_blocking(&service, &name, overrides, entry);
        tokio::task::spawn_blocking(load).await.map_err(InferError::internal)?
    }

    fn load_blocking(
        &self,
        service: &Arc<Service>,
        name: &str,
        overrides: Overrides,
        mut entry: OwnedMutexGuard<Entry>,
    ) -> Result<(), InferError> {
        let registry = service.registry();
        let serves = !registry.ready_versions(name).is_empty();
        entry.fingerprint = Some(Fingerprint::of(&self.options.roots, name));
        let (sources, files) = match self.sources(name, overrides)? {
            Ok(found) => found,
            Err(error) => {
                if !serves {
                    let versions = versions_on_disk(&self.options.roots, name);
                    let version = versions.last().copied().unwrap_or(1);
                    let failed = BTreeMap::from([(version, VersionState::Failed(error.to_string()))]);
                    registry.replace(name, failed);
                    self.ensembles.lock().remove(name);
                }
                return Err(InferError::internal(format_args!(
                    "failed to load '{name}', failed to poll from model repository: {error}"
                )));
            }
        };
        if !serves {
            let loading = sources.iter().map(|source| (source.version, VersionState::Loading)).collect();
            registry.replace(name, loading);
        }
        let mut reasons = String::new();
        let mut loaded = Vec::new();
        for source in &sources {
            let outcome = self.options.loader.load(source, service);
            let outcome = outcome.map_err(|error| format!("{error:#}"));
            if let Err(reason) = &outcome {
                reasons.push_str(&format!("version {} is at UNAVAILABLE state: {reason};", source.version));
            }
            loaded.push((source.version, outcome));
        }
        if reasons.is_empty() || !serves {
            let is_ensemble = sources.iter().any(|source| !steps(&source.config).is_empty());
            let mut ensembles = self.ensembles.lock();
            let _ = if is_ensemble { ensembles.insert(name.to_owned(), sources) } else { ensembles.remove(name) };
            drop(ensembles);
            for replaced in service.replace(name, loaded) {
                tokio::spawn(retire(replaced));
            }
            entry.override_files = files;
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(InferError::internal(format_args!("load failed for model '{name}': {reasons}")))
    }

    /// The versions to load, and the folder that keeps files which the request brought. The outer error is
    /// the request's, the inner one the repository's.
    fn sources(&self, name: &str, overrides: Overrides) -> Result<Result<Found, RepositoryError>, InferError> {
        let config = overrides.config(name)?;
        let files = overrides.write_files(name)?;
        Ok(match &files {
            Some(folder) => find_in(folder.path(), name, config),
            None => find(&self.options.roots, name, config),
        }
        .map(|sources| (sources, files)))
    }

    async fn unload_model(self: &Arc<Self>, service: &Arc<Service>, name: &str) {
        let mut entry = self.entry(name).lock_owned().await;
        self.ensembles.lock().remove(name);
        for model in service.unload(name) {
            tokio::spawn(retire(model));
        }
        *entry = Entry::default();
        drop(entry);
        self.follow(service, name, &[]).await;
    }
}

/// The index of a service: of its repository, or where it has none of what is loaded.
///
/// # Errors
/// As [`Repository::index`].
pub async fn index(service: &Arc<Service>, ready_only: bool) -> Result<Vec<IndexEntry>, InferError> {
    let Some(repository) = service.repository() else {
        return Ok(index_of(service, ready_only));
    };
    let (repository, service) = (Arc::clone(repository), Arc::clone(service));
    // Folders are read: not on the event loop.
    let index = tokio::task::spawn_blocking(move || repository.index(&service, ready_only));
    index.await.map_err(InferError::internal)?
}

/// What is loaded.
fn index_of(service: &Service, ready_only: bool) -> Vec<IndexEntry> {
    let entries = service.registry().index().into_iter().map(|(name, version, state)| {
        let (state, reason) = match state {
            VersionState::Ready(_) => ("READY", None),
            VersionState::Loading => ("LOADING", None),
            VersionState::Draining => ("UNLOADING", None),
            VersionState::Failed(reason) => ("UNAVAILABLE", Some(reason)),
            VersionState::Unloaded => ("UNAVAILABLE", Some("unloaded".to_owned())),
        };
        IndexEntry { name, version: Some(version.to_string()), state: Some(state), reason }
    });
    entries.filter(|entry| !ready_only || entry.state == Some("READY")).collect()
}

/// Triton's refusal of load and unload, whatever the mode.
pub fn not_controlled() -> InferError {
    InferError::new(ErrorKind::Unavailable, "explicit model load / unload is not allowed if polling is enabled")
}

/// Whether this can be a model's name: a folder's, not a path.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// Ends a model that no new request finds any more, once the last that has found it is done.
async fn retire(model: Arc<Model>) {
    while Arc::strong_count(&model) > 1 {
        tokio::time::sleep(RETIRE_INTERVAL).await;
    }
    if let Err(error) = tokio::task::spawn_blocking(move || model.drain()).await {
        tracing::error!(%error, "an instance did not end");
    }
}
