//! In a build without object stores there is no copy of one.

use std::path::Path;

use super::{address::Address, error::RemoteError, options::CopyOptions};

/// A copy, of which there is none.
#[derive(Debug)]
pub(super) enum Mirror {}

impl Mirror {
    /// # Errors
    /// Always.
    pub(super) fn open(address: Address, _options: &CopyOptions) -> Result<Self, RemoteError> {
        Err(RemoteError::NotBuilt { address: address.text })
    }

    pub(super) fn folder(&self) -> &Path {
        match *self {}
    }

    pub(super) fn address(&self) -> &str {
        match *self {}
    }

    pub(super) fn refresh(&self) -> Vec<RemoteError> {
        match *self {}
    }

    pub(super) fn fetch(&self, _name: &str) -> Result<(), RemoteError> {
        match *self {}
    }

    pub(super) fn names(&self) -> Vec<String> {
        match *self {}
    }
}
