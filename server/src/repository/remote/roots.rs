//! The folders of a server's repositories, some of which are copies of object stores.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(not(feature = "object-stores"))]
use super::absent::Mirror;
#[cfg(feature = "object-stores")]
use super::mirror::Mirror;
use super::{address::Address, error::RemoteError, options::CopyOptions};
use crate::repository::{
    error::RepositoryError,
    folders::{self, model_names},
    source::ModelSource,
};

/// The folders of repositories. A clone has the same copies.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    folders: Vec<PathBuf>,
    mirrors: Vec<Arc<Mirror>>,
    /// Held while copies are made: one at a time, and waiting takes no thread.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Folders without object stores.
impl From<Vec<PathBuf>> for Roots {
    fn from(folders: Vec<PathBuf>) -> Self {
        Self { folders, ..Self::default() }
    }
}

impl Roots {
    /// The repositories with these names: folders, or addresses of object stores. Nothing is copied yet.
    ///
    /// # Errors
    /// When a name is not an address although it has a scheme, the build has no object stores, the environment lacks what the
    /// store needs, or the folder of the copy cannot be written or belongs to another server.
    pub fn open(names: &[PathBuf], options: &CopyOptions) -> Result<Self, RemoteError> {
        let mut roots = Self::default();
        for name in names {
            let folder = match name.to_str().map(Address::parse).transpose()?.flatten() {
                Some(address) => {
                    let mirror = Mirror::open(address, options)?;
                    let folder = mirror.folder().to_owned();
                    roots.mirrors.push(Arc::new(mirror));
                    folder
                }
                None => name.clone(),
            };
            roots.folders.push(folder);
        }
        Ok(roots)
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Looks at the object stores, and copies what is new or changed. Returns what failed; the copies of models that failed stay
    /// as they were.
    pub async fn refresh(&self) -> Vec<RemoteError> {
        let mut failed = Vec::new();
        for mirror in &self.mirrors {
            let _turn = self.turn.lock().await;
            let mirror = Arc::clone(mirror);
            let address = mirror.address().to_owned();
            let refreshed = tokio::task::spawn_blocking(move || mirror.refresh()).await;
            failed.extend(refreshed.unwrap_or_else(|error| vec![interrupted(address, &error)]));
        }
        failed
    }

    /// Copies a model that is about to be loaded, if it is in an object store and [`Copied::Loaded`](super::Copied::Loaded). A model that is in none is
    /// no error.
    ///
    /// # Errors
    /// When it is in one and cannot be copied, or the store cannot be read.
    pub async fn fetch(&self, name: &str) -> Result<(), RemoteError> {
        for mirror in &self.mirrors {
            let _turn = self.turn.lock().await;
            let (mirror, name) = (Arc::clone(mirror), name.to_owned());
            let address = mirror.address().to_owned();
            let fetched = tokio::task::spawn_blocking(move || mirror.fetch(&name)).await;
            fetched.unwrap_or_else(|error| Err(interrupted(address, &error)))?;
        }
        Ok(())
    }

    /// The names of the models, sorted: those on disk, and those that the object stores had when they were looked at last.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, RepositoryError> {
        let mut names = model_names(&self.folders)?;
        names.extend(self.mirrors.iter().flat_map(|mirror| mirror.names()));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// As [`folders::find`], with the addresses of object stores in the error for a model that is nowhere.
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, name: &str) -> Result<Vec<ModelSource>, RepositoryError> {
        folders::find(&self.folders, name, None).map_err(|error| match error {
            RepositoryError::NoModel { name, .. } => match self.names() {
                Ok(found) => RepositoryError::NoModel { name, roots: self.to_string(), found: found.join(", ") },
                Err(error) => error,
            },
            error => error,
        })
    }

    /// The folder's name, or the address that it is the copy of.
    fn name_of(&self, folder: &Path) -> String {
        let mirror = self.mirrors.iter().find(|mirror| mirror.folder() == folder);
        mirror.map_or_else(|| folder.display().to_string(), |mirror| mirror.address().to_owned())
    }
}

/// The names of the repositories, separated by commas.
impl std::fmt::Display for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.folders.iter().map(|folder| self.name_of(folder)).collect();
        f.write_str(&names.join(", "))
    }
}

fn interrupted(address: String, error: &tokio::task::JoinError) -> RemoteError {
    RemoteError::Store { address, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Copied;

    fn open(names: &[&str], folder: &Path) -> Result<Roots, RemoteError> {
        let options = CopyOptions { folder: folder.to_owned(), max_bytes: 1, copied: Copied::All };
        Roots::open(&names.iter().map(PathBuf::from).collect::<Vec<_>>(), &options)
    }

    #[tokio::test]
    async fn folders_need_no_copy() {
        let cache = tempfile::tempdir().unwrap();
        let roots = open(&["/models", "more"], cache.path()).unwrap();
        assert_eq!(roots.folders(), [PathBuf::from("/models"), PathBuf::from("more")]);
        assert!(roots.refresh().await.is_empty());
        roots.fetch("m").await.unwrap();
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[cfg(not(feature = "object-stores"))]
    #[test]
    fn a_build_without_object_stores_names_the_feature() {
        let cache = tempfile::tempdir().unwrap();
        let error = open(&["/models", "s3://bucket/models"], cache.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            "--model-repository s3://bucket/models: this build reads no object stores: build it with `--features object-stores`, or name a folder"
        );
    }
}
