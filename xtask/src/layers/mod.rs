//! `cargo xtask layers`: checks the imports of each crate against the tables of docs/architecture.md.

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

/// Prints each crate's layers. Exit status: 1 if an import points up or between separate layers of one row, if files
/// import each other in a cycle, or if a crate uses a forbidden package.
///
/// # Errors
/// When the document or a source file cannot be read.
#[allow(clippy::print_stdout, reason = "the list of layers is the result")]
pub(crate) fn layers() -> anyhow::Result<ExitCode> {
    let root = crate::project::root();
    let document = fs::read_to_string(root.join(DOCUMENT)).context(DOCUMENT)?;
    let architecture = table::read(&document).context(DOCUMENT)?;
    let mut violations = packages::forbidden(&root, &architecture.crates)?;
    let mut files = 0;
    for rule in &architecture.crates {
        let layers = architecture.layers.iter().find(|layers| layers.name == rule.name);
        let result = check(&root, &rule.name, layers)?;
        files += result.files;
        print(&rule.name, result.files, layers);
        violations.extend(result.violations);
    }
    if violations.is_empty() {
        println!("{} crates, {files} files: all imports point down, without cycles", architecture.crates.len());
        return Ok(ExitCode::SUCCESS);
    }
    violations.iter().for_each(|violation| eprintln!("{violation}"));
    eprintln!("{} violations of the tables of {DOCUMENT}: move shared code to a layer below both", violations.len());
    Ok(ExitCode::FAILURE)
}

struct CheckResult {
    files: usize,
    violations: Vec<String>,
}

/// Checks the crate in the folder `name` below `root`.
fn check(root: &Path, name: &str, layers: Option<&table::CrateLayers>) -> anyhow::Result<CheckResult> {
    let modules = source::read(&root.join(name))?;
    let files: BTreeSet<_> = modules.values().map(|module| &module.file).collect();
    let violations = rules::violations(Path::new(name), layers, &modules, &imports::imports(&modules));
    Ok(CheckResult { files: files.len(), violations })
}

#[allow(clippy::print_stdout, reason = "the list of layers is the result")]
fn print(name: &str, files: usize, layers: Option<&table::CrateLayers>) {
    println!("{name}: {files} files");
    let rows = layers.map(|layers| layers.rows.as_slice()).unwrap_or_default();
    let names: Vec<_> = rows.iter().map(|row| row.layers.join(" | ")).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for (name, row) in names.iter().zip(rows) {
        println!("  {name:width$}  {}", row.purpose);
    }
}
