//! Paths of the project's folder and programs.

use std::path::PathBuf;

/// The project's folder: under cargo that of the workspace, else the current one, as when the programs were carried to another
/// machine.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = manifest.and_then(|folder| folder.parent().map(PathBuf::from));
    workspace.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| ".".into())
}

/// The path of one of the project's programs, built with this profile.
pub(crate) fn program(profile: &str, name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target).join(profile).join(name)
}
