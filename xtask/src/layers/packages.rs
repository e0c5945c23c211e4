//! Which packages are in a crate's dependency tree.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

use super::table::CrateRule;

/// The packages that crates have in their trees against the table, a line each.
///
/// # Errors
/// When cargo cannot list a tree.
pub(super) fn forbidden(root: &Path, crates: &[CrateRule]) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for rule in crates.iter().filter(|rule| !rule.forbidden.is_empty()) {
        let package = format!("quintet-{}", rule.name);
        let tree = tree(root, &package)?;
        for name in rule.forbidden.iter().filter(|name| tree.lines().any(|line| line == name.as_str())) {
            broken.push(format!("{package} must not use {name}: see cargo tree --package {package} --invert {name}"));
        }
    }
    Ok(broken)
}

/// The names of all packages that a package is built from, a line each.
fn tree(root: &Path, package: &str) -> anyhow::Result<String> {
    let arguments = ["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{lib}", "--package", package];
    let output =
        Command::new(env!("CARGO")).current_dir(root).args(arguments).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo tree --package {package}: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("cargo tree")?;
    Ok(names.replace('_', "-"))
}
