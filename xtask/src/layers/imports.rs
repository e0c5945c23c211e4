//! Finds out which file each path of a crate leads to.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::module::{ModulePath, Modules, PathUse};

/// Longest chain of re-exports that is followed.
const MAX_REEXPORTS: usize = 16;

/// One file uses what another one has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: PathBuf,
    pub(super) from_module: ModulePath,
    pub(super) line: usize,
    /// As written.
    pub(super) path: String,
    pub(super) to: PathBuf,
    pub(super) to_module: ModulePath,
}

/// Where a path leads.
enum Target {
    Module(ModulePath),
    /// Something that the module declares.
    ItemOf(ModulePath),
}

/// All imports between the files of a crate. A name that a module re-exports counts as an import from where it is
/// declared.
pub(super) fn imports(modules: &Modules) -> BTreeSet<Import> {
    let mut imports = BTreeSet::new();
    for (name, module) in modules {
        let uses = module.uses.iter().map(|used| (used.name == "*", &used.path));
        for (is_glob, path) in uses.chain(module.paths.iter().map(|path| (false, path))) {
            let to = match resolve(modules, name, &path.segments, MAX_REEXPORTS) {
                Some(Target::ItemOf(to)) => to,
                // A name for a module is not yet a use of anything in it.
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

/// `None` where the path leads out of the crate, or is a name of the module itself.
fn resolve(modules: &Modules, here: &ModulePath, segments: &[String], depth: usize) -> Option<Target> {
    let (first, rest) = segments.split_first()?;
    match first.as_str() {
        "crate" => walk(modules, Vec::new(), rest, depth),
        "self" => walk(modules, here.clone(), rest, depth),
        "super" => walk(modules, parent(here)?, rest, depth),
        _ => {
            let child: ModulePath = here.iter().cloned().chain([first.clone()]).collect();
            if modules.contains_key(&child) {
                return walk(modules, child, rest, depth);
            }
            let used = modules.get(here)?.uses.iter().find(|used| used.name == *first)?;
            follow(modules, here, &used.path.segments, rest, depth)
        }
    }
}

/// Goes on from a module with what is left of a path.
fn walk(modules: &Modules, at: ModulePath, rest: &[String], depth: usize) -> Option<Target> {
    let Some((first, left)) = rest.split_first() else { return Some(Target::Module(at)) };
    if first == "super" {
        return walk(modules, parent(&at)?, left, depth);
    }
    let child: ModulePath = at.iter().cloned().chain([first.clone()]).collect();
    if modules.contains_key(&child) {
        return walk(modules, child, left, depth);
    }
    let module = modules.get(&at)?;
    match module.uses.iter().find(|used| used.name == *first) {
        Some(used) => follow(modules, &at, &used.path.segments, left, depth),
        None => Some(Target::ItemOf(at)),
    }
}

/// What `rest` means behind a name that `module` has from elsewhere.
fn follow(modules: &Modules, module: &ModulePath, used: &[String], rest: &[String], depth: usize) -> Option<Target> {
    let depth = depth.checked_sub(1)?;
    match resolve(modules, module, used, depth)? {
        Target::Module(target) => walk(modules, target, rest, depth),
        item => Some(item),
    }
}

fn parent(module: &[String]) -> Option<ModulePath> {
    module.split_last().map(|(_, parent)| parent.to_vec())
}

/// `transport/http1` for a module's path.
pub(super) fn slashed(module: &[String]) -> String {
    module.join("/")
}

/// A file as a reader finds it.
pub(super) fn shown(folder: &Path, file: &Path) -> String {
    folder.join("src").join(file).display().to_string()
}
