//! The modules of a crate, each with its imports.

use std::{collections::BTreeMap, path::PathBuf};

/// The names of the modules from the crate's root to a module; empty for the root.
pub(super) type ModulePath = Vec<String>;

/// One module: a file, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its file, relative to the crate's `src`.
    pub(super) file: PathBuf,
    /// The names that its `use` items bring into scope.
    pub(super) uses: Vec<Use>,
    /// The paths in its code.
    pub(super) paths: Vec<PathUse>,
}

/// A path in code, as written.
#[derive(Clone, Debug)]
pub(super) struct PathUse {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// All modules of a crate, except its test modules.
pub(super) type Modules = BTreeMap<ModulePath, Module>;

/// A name that a `use` item brings into scope.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// The name; `*` for a glob import.
    pub(super) name: String,
    /// The imported path, as written.
    pub(super) path: PathUse,
}
