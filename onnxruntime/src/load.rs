//! Opens the library and creates the process's single environment.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::{
    environment::{Environment, GlobalThreadPoolOptions},
    logging::LogLevel,
};

use crate::{
    locate::{LocateError, SearchPaths, locate, version_text},
    plugins::{ListedDevice, Plugins, devices},
    preload,
};

/// Minor version of the oldest supported ONNX Runtime 1.x: the code uses the API of 1.24 (ort's feature `api-24`).
const MIN_MINOR_VERSION: u32 = 24;

/// The thread pool that all sessions share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPool {
    /// Threads that run one operator together, including the calling thread.
    pub intra_op_threads: usize,
    /// Whether idle threads spin: they start work sooner, but occupy their cores.
    pub spin: bool,
}

/// The loaded library.
#[derive(Debug)]
pub struct Loaded {
    /// The path of the library.
    pub path: PathBuf,
    /// Branch, commit and flags of its build.
    pub build_info: &'static str,
    /// The thread pool that its sessions share.
    pub threads: ThreadPool,
    /// The process's single environment.
    pub environment: Environment,
    plugins: Plugins,
}

impl Loaded {
    /// The version in the file's name, e.g. `1.32.0`; the build info if the name has none.
    pub fn version(&self) -> String {
        version_text(&self.path).unwrap_or_else(|| self.build_info.to_owned())
    }

    /// Registers a library with execution providers, for as long as the process runs. A second one with the same name is not
    /// looked at: the first one's outcome is returned.
    ///
    /// # Errors
    /// Why it cannot be used, in one line.
    pub fn register(&self, name: &str, path: &Path) -> Result<(), String> {
        self.plugins.register(&self.environment, name, path)
    }

    /// The libraries that were registered, by name, and why those that failed did.
    pub fn plugins(&self) -> Vec<(String, Result<(), String>)> {
        self.plugins.all()
    }

    /// Whether any library with execution providers is registered.
    pub fn has_plugins(&self) -> bool {
        self.plugins.any()
    }

    /// The devices of all providers that list any: ONNX Runtime's CPU provider and those of registered libraries.
    pub fn devices(&'static self) -> Vec<ListedDevice> {
        devices(&self.environment)
    }
}

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It was not found.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// It was found but cannot be opened.
    #[error("cannot open ONNX Runtime: {0}")]
    Open(String),
    /// It is too old.
    #[error(
        "{path} is ONNX Runtime {found}; 1.{MIN_MINOR_VERSION} or later is required: run `make setup`, or name a newer library \
         with --onnxruntime",
        path = path.display()
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A different library is already loaded.
    #[error("ONNX Runtime is already loaded from {}; this process cannot load {} too", loaded.display(), requested.display())]
    AlreadyLoaded {
        /// The loaded library.
        loaded: PathBuf,
        /// The requested library.
        requested: PathBuf,
    },
    /// It was opened, but the environment cannot be created.
    #[error("cannot start ONNX Runtime: {0}")]
    Start(#[from] ort::Error),
}

/// The library of this process; ONNX Runtime allows a single environment.
static LOADED: Mutex<Option<&'static Loaded>> = Mutex::new(None);

/// Finds the library (`flag` is the value of `--onnxruntime`) and loads it with this thread pool. Later calls return
/// the library of the first call, with its thread pool.
///
/// # Errors
/// See [`LoadError`]; each message is one line and names the remedy.
pub fn load(flag: Option<&Path>, threads: ThreadPool) -> Result<&'static Loaded, LoadError> {
    let path = locate(&SearchPaths::of_process(flag))?;
    let mut slot = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(loaded) = *slot {
        if loaded.path == path {
            return Ok(loaded);
        }
        return Err(LoadError::AlreadyLoaded { loaded: loaded.path.clone(), requested: path });
    }
    if let Some(folder) = path.parent() {
        preload::beside_library(folder);
    }
    // init_from must come first: other calls of ort panic if the library cannot be opened.
    let builder = ort::init_from(&path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, path } => LoadError::TooOld { path, found: version_str },
        other => LoadError::Open(open_error(&other)),
    })?;
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads.intra_op_threads.max(1))?
        .with_inter_threads(1)?
        .with_spin_control(threads.spin)?;
    let environment = builder.with_name("quintet").with_global_thread_pool(pool).build()?;
    environment.set_log_level(LogLevel::Warning);
    let plugins = Plugins::default();
    let loaded = Loaded { path, build_info: ort::info(), threads, environment, plugins };
    let loaded: &'static Loaded = Box::leak(Box::new(loaded));
    *slot = Some(loaded);
    Ok(loaded)
}

/// The library that [`load`] has loaded, if it has.
pub fn loaded() -> Option<&'static Loaded> {
    *LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The dynamic loader's message in one line; for `Dlopen` it is in the error's source.
fn open_error(error: &ort::LoadDynamicError) -> String {
    let message = match error {
        ort::LoadDynamicError::Dlopen { error, path } => {
            let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("{}: {reason}", path.display())
        }
        other => other.to_string(),
    };
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
