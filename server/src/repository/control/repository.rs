//! A repository with the state of each of its models.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quintet_engine::{ErrorKind, InferError};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::{
    catalog::Catalog,
    repository::{
        error::RepositoryError,
        fingerprint::Fingerprint,
        index::{IndexEntry, index_of},
        loader::Loader,
        remote::{RemoteError, Roots},
        source::ModelSource,
    },
};

/// How models are selected for loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The models on disk at the start.
    None,
    /// The models on disk, which are checked for changes at this interval.
    Poll(Duration),
    /// Clients load and unload models.
    Explicit,
}

/// Settings of a repository.
pub struct Options {
    /// The folders with models.
    pub roots: Roots,
    /// How models are selected for loading.
    pub mode: Mode,
    /// How models are loaded.
    pub loader: Loader,
    /// Maximum number of models that load at the same time.
    pub loads_at_once: usize,
    /// How often a version that failed to load is tried again.
    pub load_retries: u32,
    /// Whether one model that is not ready makes the server not ready.
    pub strict_readiness: bool,
}

/// The state of one model. The holder of its lock may load or unload it.
#[derive(Default)]
pub(super) struct Entry {
    /// The folder's files at the last load, successful or not.
    pub(super) fingerprint: Option<Fingerprint>,
    /// Files from a load request.
    pub(super) override_files: Option<TempDir>,
}

/// The repository of one service.
pub struct Repository {
    pub(super) catalog: Arc<Catalog>,
    pub(super) options: Options,
    pub(super) loads: Semaphore,
    pub(super) started: AtomicBool,
    pub(super) entries: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
    /// The ensembles that are in service, or would be if they fit their models.
    pub(super) ensembles: Mutex<BTreeMap<String, Vec<ModelSource>>>,
}

impl Repository {
    /// A repository whose models go into `catalog`. Nothing is loaded yet.
    pub fn new(catalog: Arc<Catalog>, options: Options) -> Self {
        Self {
            loads: Semaphore::new(options.loads_at_once.max(1)),
            catalog,
            options,
            started: AtomicBool::new(false),
            entries: Mutex::default(),
            ensembles: Mutex::default(),
        }
    }

    /// Whether the models of the start have been loaded or have failed.
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

    /// Brings the copies of object stores up to date. Returns what failed; the copies of models that failed stay as they were.
    pub async fn refresh(&self) -> Vec<RemoteError> {
        self.options.roots.refresh().await
    }

    /// The names of the models on disk, and of those in object stores that are copied when they are loaded.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn names_on_disk(&self) -> Result<Vec<String>, RepositoryError> {
        self.options.roots.names()
    }

    /// Every version of every model with its state, and models that are only on disk.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a folder cannot be read.
    pub fn index(&self, ready_only: bool) -> Result<Vec<IndexEntry>, InferError> {
        let mut index = index_of(&self.catalog, ready_only);
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

    /// # Errors
    /// [`not_controlled`], unless clients may load and unload models.
    pub(super) fn allow_control(&self) -> Result<(), InferError> {
        if self.is_controlled() { Ok(()) } else { Err(not_controlled()) }
    }

    /// The state of the model `name`.
    pub(super) fn entry(&self, name: &str) -> Arc<tokio::sync::Mutex<Entry>> {
        Arc::clone(self.entries.lock().entry(name.to_owned()).or_default())
    }
}

/// Triton's error for load and unload requests unless the mode is explicit.
pub fn not_controlled() -> InferError {
    InferError::new(ErrorKind::Unavailable, "explicit model load / unload is not allowed if polling is enabled")
}
