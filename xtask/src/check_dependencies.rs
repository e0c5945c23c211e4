//! `cargo xtask check-dependencies`: licences, sources, minimum Rust and known vulnerabilities of the packages in Cargo.lock.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{process::run, project::root, setup::dependency_programs};

/// Runs cargo-deny and cargo-audit on the dependencies of all platforms, with all features, and compares the Rust that each
/// one needs with ours.
///
/// # Errors
/// When a check fails, or the database of advisories cannot be fetched and `advisories_required`.
pub(crate) fn check_dependencies(advisories_required: bool) -> anyhow::Result<()> {
    let programs = dependency_programs()?;
    let (deny, audit) = (programs.join("cargo-deny"), programs.join("cargo-audit"));
    run(&deny, &["--locked", "check", "licenses", "bans", "sources"])?;
    minimum_rust(&metadata()?)?;
    if let Err(error) = run(&deny, &["fetch", "db"]) {
        if advisories_required {
            return Err(error.context("cannot fetch the database of advisories"));
        }
        eprintln!("not run: known vulnerabilities, because their database could not be fetched");
        return Ok(());
    }
    run(&deny, &["--frozen", "check", "advisories"])?;
    run(&audit, &["audit"])
}

fn metadata() -> anyhow::Result<Value> {
    let arguments = ["metadata", "--format-version=1", "--locked"];
    let output =
        Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Fails if a dependency states that it needs a newer Rust than the workspace's `rust-version`.
fn minimum_rust(metadata: &Value) -> anyhow::Result<()> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let is_ours = |package: &&Value| package["source"].is_null();
    let ours =
        packages.iter().filter(is_ours).find_map(rust_version).context("no package of ours has a rust-version")?;
    let newer: Vec<_> = packages
        .iter()
        .filter(|package| rust_version(package).is_some_and(|theirs| theirs > ours))
        .map(|package| format!("{} {} needs {}", package["name"], package["version"], package["rust_version"]))
        .collect();
    if !newer.is_empty() {
        bail!("these need a newer Rust than rust-version in Cargo.toml: {}", newer.join(", "));
    }
    Ok(())
}

/// `[1, 90]` or `[1, 90, 0]`.
fn rust_version(package: &Value) -> Option<Vec<u32>> {
    package["rust_version"].as_str()?.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_package_that_needs_a_newer_rust_is_named() {
        let of = |theirs: &str| {
            minimum_rust(&json!({"packages": [
                {"name": "theirs", "version": "2.0.0", "source": "registry", "rust_version": theirs},
                {"name": "old", "version": "1.0.0", "source": "registry", "rust_version": null},
                {"name": "ours", "version": "0.1.0", "source": null, "rust_version": "1.90"},
            ]}))
        };
        of("1.9").unwrap();
        of("1.90").unwrap();
        let error = of("1.91.1").unwrap_err().to_string();
        assert!(error.ends_with(r#""theirs" "2.0.0" needs "1.91.1""#), "{error}");
    }
}
