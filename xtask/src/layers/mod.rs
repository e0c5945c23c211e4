//! `cargo xtask layers`: holds the code against the tables of docs/architecture.md.

mod imports;
mod module;
mod packages;
mod paths;
mod rules;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

use anyhow::Context as _;

const DOCUMENT: &str = "docs/architecture.md";

/// Prints each crate's layers, and fails on an import upward or between layers that are kept apart, on a circle of
/// files, and on a package that a crate must not use.
///
/// # Errors
/// When the document or a source file cannot be read.
pub(crate) fn layers() -> anyhow::Result<ExitCode> {
    let root = crate::project::root();
    let document = fs::read_to_string(root.join(DOCUMENT)).context(DOCUMENT)?;
    let architecture = table::read(&document).context(DOCUMENT)?;
    let mut broken = packages::forbidden(&root, &architecture.crates)?;
    let mut files = 0;
    for rule in &architecture.crates {
        let layers = architecture.layers.iter().find(|layers| layers.name == rule.name);
        let checked = check(&root, &rule.name, layers)?;
        files += checked.files;
        print(&rule.name, checked.files, layers);
        broken.extend(checked.broken);
    }
    if broken.is_empty() {
        println!("{} crates, {files} files: imports point down, and none go in a circle", architecture.crates.len());
        return Ok(ExitCode::SUCCESS);
    }
    broken.iter().for_each(|line| eprintln!("{line}"));
    eprintln!("{} lines against the tables of {DOCUMENT}: move what is shared to a layer below both", broken.len());
    Ok(ExitCode::FAILURE)
}

struct Checked {
    files: usize,
    broken: Vec<String>,
}

/// Checks the crate in the folder `name` below `root`.
fn check(root: &Path, name: &str, layers: Option<&table::CrateLayers>) -> anyhow::Result<Checked> {
    let modules = source::read(&root.join(name))?;
    let files: BTreeSet<_> = modules.values().map(|module| &module.file).collect();
    let broken = rules::broken(Path::new(name), layers, &modules, &imports::imports(&modules));
    Ok(Checked { files: files.len(), broken })
}

fn print(name: &str, files: usize, layers: Option<&table::CrateLayers>) {
    println!("{name}: {files} files");
    let rows = layers.map(|layers| layers.rows.as_slice()).unwrap_or_default();
    let names: Vec<_> = rows.iter().map(|row| row.layers.join(" | ")).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for (name, row) in names.iter().zip(rows) {
        println!("  {name:width$}  {}", row.purpose);
    }
}
