//! Installs oha, a load generator for HTTP.

use std::path::PathBuf;

use anyhow::Context as _;

use super::pip::text;
use crate::{process::run, project::root};

/// The version that `peers_clients.py` knows the output of.
const VERSION: &str = "1.16.0";

/// Installs oha, unless that version is installed already. Returns its path.
///
/// # Errors
/// When the package registry cannot be reached, or it cannot be built.
pub(crate) fn oha() -> anyhow::Result<PathBuf> {
    let folder = root().join(".quintet/oha");
    // Cargo does nothing if this version is in the folder.
    run("cargo", &["install", "oha", "--version", VERSION, "--locked", "--root", text(&folder)?])
        .context("cannot install oha")?;
    Ok(folder.join("bin/oha"))
}
