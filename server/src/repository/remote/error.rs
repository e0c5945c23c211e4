//! Errors of repositories in object stores.

use std::{io, path::PathBuf};

/// A repository in an object store, or a model in it, that cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not an address of an object store.
    #[error("--model-repository {address}: {reason}")]
    Address {
        /// The address, without what may be a secret.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The build has no object stores.
    #[error(
        "--model-repository {address}: this build reads no object stores: build it with `--features object-stores`, or name a folder"
    )]
    NotBuilt {
        /// The address.
        address: String,
    },
    /// The store does not answer as it should.
    #[error("cannot read {address}: {reason}")]
    Store {
        /// The repository's address.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A model that cannot be copied.
    #[error("cannot copy model '{name}' of {address}: {reason}")]
    Model {
        /// The repository's address.
        address: String,
        /// The model.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The copy's folder cannot be read or written.
    #[error("cannot write the copy of {address} in {folder}: {error}", folder = folder.display())]
    Folder {
        /// The repository's address.
        address: String,
        /// The copy's folder.
        folder: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process has the copy.
    #[error(
        "the copy of {address} in {folder} belongs to another server that runs: give this one its own --object-store-cache",
        folder = folder.display()
    )]
    InUse {
        /// The repository's address.
        address: String,
        /// The copy's folder.
        folder: PathBuf,
    },
}
