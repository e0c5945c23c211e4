//! A crate as modules, each with what it imports.

use std::{collections::BTreeMap, path::PathBuf};

/// Names of the modules from the crate's root down; empty for the root.
pub(super) type ModulePath = Vec<String>;

/// One module: a file, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its file, from the crate's `src` on.
    pub(super) file: PathBuf,
    /// What its `use` items bring into scope.
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

/// All modules of a crate but those of its tests.
pub(super) type Modules = BTreeMap<ModulePath, Module>;

/// A name that a `use` item brings into scope.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// The name; `*` for all names of a module.
    pub(super) name: String,
    /// Where it comes from, as written.
    pub(super) path: PathUse,
}
