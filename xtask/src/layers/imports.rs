//! Resolves the paths of a crate to the files that declare the items.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::module::{ModulePath, Modules, PathUse};

/// Maximum number of re-exports that are followed for one path.
const MAX_REEXPORTS: usize = 16;

/// An import of an item from another file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: PathBuf,
    pub(super) from_module: ModulePath,
    pub(super) line: usize,
    /// The path as written.
    pub(super) path: String,
    pub(super) to: PathBuf,
    pub(super) to_module: ModulePath,
}

/// What a path resolves to.
enum Target {
    Module(ModulePath),
    /// An item that the module declares.
    ItemOf(ModulePath),
}

/// All imports between the files of a crate. A re-exported name counts as an import from the module that declares it.
pub(super) fn imports(modules: &Modules) -> BTreeSet<Import> {
    let mut imports = BTreeSet::new();
    for (name, module) in modules {
        let uses = module.uses.iter().map(|used| (used.name == "*", &used.path));
        for (is_glob, path) in uses.chain(module.paths.iter().map(|path| (false, path))) {
            let to = match resolve(modules, name, &path.segments, MAX_REEXPORTS) {
                Some(Target::ItemOf(to)) => to,
                // Naming a module does not use an item in it.
                Some(Target::Module(to)) if is_glob => to,
                _ => continue,
            };
            imports.extend(import(modules, name, path, to));
        }
    }
    imports
}

fn import(modules: &Modules, from: &ModulePath, path: &PathUse, to: ModulePath) -> Option<Import> {
    let file = |module: &ModulePath| modules.get(module).map(|module| module.file.clone());
    let (from_file, to_file) = (file(from)?, file(&to)?);
    (from_file != to_file).then(|| Import {
        from: from_file,
        from_module: from.clone(),
        line: path.line,
        path: path.segments.join("::"),
        to: to_file,
        to_module: to,
    })
}

/// Resolves a path that is written in module `from`. `None` for a path out of the crate, or to an item of `from`
/// itself.
fn resolve(modules: &Modules, from: &ModulePath, segments: &[String], reexports: usize) -> Option<Target> {
    let (first, rest) = segments.split_first()?;
    match first.as_str() {
        "crate" => resolve_in(modules, Vec::new(), rest, reexports),
        "self" => resolve_in(modules, from.clone(), rest, reexports),
        "super" => resolve_in(modules, parent(from)?, rest, reexports),
        _ => {
            let child: ModulePath = from.iter().cloned().chain([first.clone()]).collect();
            if modules.contains_key(&child) {
                return resolve_in(modules, child, rest, reexports);
            }
            let used = modules.get(from)?.uses.iter().find(|used| used.name == *first)?;
            resolve_import(modules, from, &used.path.segments, rest, reexports)
        }
    }
}

/// Resolves a path relative to `module`.
fn resolve_in(modules: &Modules, module: ModulePath, segments: &[String], reexports: usize) -> Option<Target> {
    let Some((first, rest)) = segments.split_first() else { return Some(Target::Module(module)) };
    if first == "super" {
        return resolve_in(modules, parent(&module)?, rest, reexports);
    }
    let child: ModulePath = module.iter().cloned().chain([first.clone()]).collect();
    if modules.contains_key(&child) {
        return resolve_in(modules, child, rest, reexports);
    }
    match modules.get(&module)?.uses.iter().find(|used| used.name == *first) {
        Some(used) => resolve_import(modules, &module, &used.path.segments, rest, reexports),
        None => Some(Target::ItemOf(module)),
    }
}

/// Resolves `rest` relative to a name that `module` imports from the path `used`.
fn resolve_import(
    modules: &Modules,
    module: &ModulePath,
    used: &[String],
    rest: &[String],
    reexports: usize,
) -> Option<Target> {
    let reexports = reexports.checked_sub(1)?;
    match resolve(modules, module, used, reexports)? {
        Target::Module(target) => resolve_in(modules, target, rest, reexports),
        item => Some(item),
    }
}

fn parent(module: &[String]) -> Option<ModulePath> {
    module.split_last().map(|(_, parent)| parent.to_vec())
}

/// A module's path as the tables write it, e.g. `transport/http1`.
pub(super) fn module_name(module: &[String]) -> String {
    module.join("/")
}

/// A file's path from the project's root.
pub(super) fn project_path(folder: &Path, file: &Path) -> String {
    folder.join("src").join(file).display().to_string()
}
