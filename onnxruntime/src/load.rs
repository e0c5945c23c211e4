//! Opening the library, and the process's one environment.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::{
    environment::{Environment, GlobalThreadPoolOptions},
    logging::LogLevel,
};

use crate::locate::{LocateError, Places, locate, version_text};

/// Oldest minor version of ONNX Runtime 1.x whose interface has what is used here (`api-24`).
const MIN_MINOR_VERSION: u32 = 24;

/// The thread pool that all sessions share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPool {
    /// Threads that work on one operator together, the caller's included.
    pub intra_op_threads: usize,
    /// Whether idle threads spin for work: quicker to wake, but a core less for everybody else.
    pub spin: bool,
}

/// The loaded library.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was found.
    pub path: PathBuf,
    /// What it says of itself: branch, commit, flags.
    pub build_info: &'static str,
    /// The process's one environment.
    pub environment: Environment,
}

impl Loaded {
    /// Its version, e.g. `1.32.0`, as its file says it; its build where the file does not.
    pub fn version(&self) -> String {
        version_text(&self.path).unwrap_or_else(|| self.build_info.to_owned())
    }
}

/// The library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// It is there but cannot be opened.
    #[error("cannot open ONNX Runtime: {0}")]
    Open(String),
    /// It is too old.
    #[error(
        "{path} is ONNX Runtime {found}; 1.{MIN_MINOR_VERSION} or later is needed: run `make setup`, or name a newer one \
         with --onnxruntime",
        path = path.display()
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// Another library is loaded already.
    #[error("ONNX Runtime is loaded from {loaded}; one process cannot load {asked} too", loaded = loaded.display(), asked = asked.display())]
    Another {
        /// The one that is loaded.
        loaded: PathBuf,
        /// The one asked for.
        asked: PathBuf,
    },
    /// It is open but refuses to start.
    #[error("ONNX Runtime does not start: {0}")]
    Start(#[from] ort::Error),
}

/// The one library of this process; ONNX Runtime allows a single environment.
static LOADED: Mutex<Option<&'static Loaded>> = Mutex::new(None);

/// Finds the library (`flag` is the value of `--onnxruntime`) and loads it with this thread pool. A
/// second call returns what the first one loaded, with the first one's thread pool.
///
/// # Errors
/// One line that says what to do.
pub fn load(flag: Option<&Path>, threads: ThreadPool) -> Result<&'static Loaded, LoadError> {
    let path = locate(&Places::of_process(flag))?;
    let mut slot = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(loaded) = *slot {
        if loaded.path == path {
            return Ok(loaded);
        }
        return Err(LoadError::Another { loaded: loaded.path.clone(), asked: path });
    }
    // init_from comes before everything else: other calls panic when the library cannot be opened.
    let builder = ort::init_from(&path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, path } => LoadError::TooOld { path, found: version_str },
        other => LoadError::Open(whole_story(&other)),
    })?;
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads.intra_op_threads.max(1))?
        .with_inter_threads(1)?
        .with_spin_control(threads.spin)?;
    let environment = builder.with_name("quintet").with_global_thread_pool(pool).build()?;
    environment.set_log_level(LogLevel::Warning);
    let loaded: &'static Loaded = Box::leak(Box::new(Loaded { path, build_info: ort::info(), environment }));
    *slot = Some(loaded);
    Ok(loaded)
}

/// The loader's own reason in one line: it stands in the error's source.
fn whole_story(error: &ort::LoadDynamicError) -> String {
    let story = match error {
        ort::LoadDynamicError::Dlopen { error, path } => {
            let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("{}: {reason}", path.display())
        }
        other => other.to_string(),
    };
    story.split_whitespace().collect::<Vec<_>>().join(" ")
}
