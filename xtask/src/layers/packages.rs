//! Checks which packages a crate depends on, with `cargo tree`.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

use super::table::CrateRule;

/// One line for each forbidden package in a crate's dependency tree.
///
/// # Errors
/// When `cargo tree` fails.
pub(super) fn forbidden(root: &Path, crates: &[CrateRule]) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for rule in crates.iter().filter(|rule| !rule.forbidden.is_empty()) {
        let package = format!("quintet-{}", rule.name);
        let tree = tree(root, &package)?;
        for name in rule.forbidden.iter().filter(|name| tree.lines().any(|line| line == name.as_str())) {
            violations
                .push(format!("{package} must not use {name}: see cargo tree --package {package} --invert {name}"));
        }
    }
    Ok(violations)
}

/// The names of all packages in a package's dependency tree, one per line.
fn tree(root: &Path, package: &str) -> anyhow::Result<String> {
    let arguments = ["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{lib}", "--package", package];
    let output =
        Command::new(env!("CARGO")).current_dir(root).args(arguments).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo tree --package {package}: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("cargo tree")?;
    Ok(names.replace('_', "-"))
}
