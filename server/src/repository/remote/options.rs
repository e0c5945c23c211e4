//! How object stores are copied.

use std::path::PathBuf;

/// Which models of an object store are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// All of them, at the start and whenever the repository is looked at.
    All,
    /// Each when it is loaded.
    Loaded,
}

/// How object stores are copied.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// The folder with a folder for each store.
    pub folder: PathBuf,
    /// Maximum bytes that the copies of one store's models take.
    pub max_bytes: u64,
    /// Which models are copied.
    pub copied: Copied,
}
