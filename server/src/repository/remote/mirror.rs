//! Copies the models of an object store to a folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, path::Path as Key};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    address::{Address, Bucket},
    connect::connect,
    copies::{Copies, New},
    error::RemoteError,
    listing::{Listing, ReadError, list, read},
    options::{Copied, CopyOptions},
    reason::reason,
};

/// How often a model is copied anew when it changes while it is copied.
const ATTEMPTS: usize = 3;

/// A repository in an object store and its copy. Its methods block, on a thread of a runtime that is made for it.
#[derive(Debug)]
pub(super) struct Mirror {
    address: String,
    bucket: Bucket,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    folder: PathBuf,
    max_bytes: u64,
    copied: Copied,
    copies: Mutex<Copies>,
    /// With [`Copied::Loaded`], the models that the store had when it was looked at last.
    names: Mutex<Vec<String>>,
}

impl Mirror {
    /// Connects the repository with its folder in `options.folder`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the environment lacks what the store needs, or the folder cannot be written or belongs to another process.
    pub(super) fn open(address: Address, options: &CopyOptions) -> Result<Self, RemoteError> {
        let store = connect(&address)?;
        Self::with(store, address, options)
    }

    fn with(store: Arc<dyn ObjectStore>, address: Address, options: &CopyOptions) -> Result<Self, RemoteError> {
        let Address { text: address, bucket, prefix } = address;
        let folder = options.folder.join(folder_name(&address));
        let copies = match Copies::open(folder.clone()) {
            Ok(Some(copies)) => copies,
            Ok(None) => return Err(RemoteError::InUse { address, folder }),
            Err(error) => return Err(RemoteError::Folder { address, folder, error }),
        };
        let prefix = Key::parse(prefix)
            .map_err(|error| RemoteError::Store { address: address.clone(), reason: error.to_string() })?;
        let (max_bytes, copied, copies) = (options.max_bytes, options.copied, Mutex::new(copies));
        Ok(Self { address, bucket, store, prefix, folder, max_bytes, copied, copies, names: Mutex::default() })
    }

    /// The folder of the copy.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address as it was given.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// With [`Copied::Loaded`], the models that the store had when it was looked at last; otherwise those on disk are all.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.lock().clone()
    }

    /// Copies all models, or with [`Copied::Loaded`] only looks which there are. The copies of others are removed. Returns what
    /// failed.
    pub(super) fn refresh(&self) -> Vec<RemoteError> {
        let models = match self.list(None) {
            Ok(models) => models,
            Err(error) => return vec![error],
        };
        let mut copies = self.copies.lock();
        if let Err(error) = copies.retain(|name| models.contains_key(name)) {
            return vec![self.unwritten(error)];
        }
        if models.is_empty() {
            let reason = "there is nothing in a folder below it: check the bucket and the prefix".to_owned();
            return vec![RemoteError::Store { address: self.address.clone(), reason }];
        }
        if self.copied == Copied::Loaded {
            *self.names.lock() = models.into_keys().collect();
            return Vec::new();
        }
        models.into_iter().filter_map(|(name, listing)| self.copy(&mut copies, &name, listing).err()).collect()
    }

    /// With [`Copied::Loaded`], copies a model if the store has it, and removes its copy otherwise.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub(super) fn fetch(&self, name: &str) -> Result<(), RemoteError> {
        if self.copied == Copied::All {
            return Ok(());
        }
        let listing = self.list(Some(name))?.remove(name);
        let mut copies = self.copies.lock();
        match listing {
            Some(listing) => self.copy(&mut copies, name, listing),
            None => copies.retain(|other| other != name).map_err(|error| self.unwritten(error)),
        }
    }

    /// Makes the copy of a model what the store has.
    fn copy(&self, copies: &mut Copies, name: &str, mut listing: Listing) -> Result<(), RemoteError> {
        let failed = |reason| RemoteError::Model { address: self.address.clone(), name: name.to_owned(), reason };
        for _ in 0..ATTEMPTS {
            if copies.is_current(name, &listing) {
                return Ok(());
            }
            let (bytes, max) = (listing.values().map(|version| version.bytes).sum(), self.max_bytes);
            let others = copies.bytes_without(name);
            if others.saturating_add(bytes) > max {
                return Err(failed(format!(
                    "it has {bytes} bytes, and the other copies have {others}, which is more than --object-store-max-bytes {max}"
                )));
            }
            let new = copies.begin().map_err(|error| self.unwritten(error))?;
            let is_whole = match self.write(copies, &new, name, &listing) {
                Ok(()) => true,
                Err(ReadError::Changed) => false,
                Err(error) => return Err(failed(self.reason(error))),
            };
            // The objects of one moment: none changed from the first to the last.
            let again = self.list(Some(name))?.remove(name).unwrap_or_default();
            if is_whole && again == listing {
                tracing::info!(model = name, from = self.address, bytes, "copied a model");
                return copies.replace(name, new, listing).map_err(|error| self.unwritten(error));
            }
            if again.is_empty() {
                return copies.retain(|other| other != name).map_err(|error| self.unwritten(error));
            }
            listing = again;
        }
        Err(failed("its objects change while they are copied: the next look at the store tries again".to_owned()))
    }

    /// Writes the objects of a model to its new copy.
    fn write(&self, copies: &Copies, new: &New, name: &str, listing: &Listing) -> Result<(), ReadError> {
        for (path, version) in listing {
            let file = copies.add(new, name, path, version).map_err(ReadError::Write)?;
            let Some(mut file) = file else { continue };
            let location = Key::parse(format!("{}/{name}/{path}", self.prefix)).map_err(object_store::Error::from)?;
            Handle::current().block_on(read(&*self.store, &location, version, &mut file))?;
            file.sync_all().map_err(ReadError::Write)?;
        }
        Ok(())
    }

    fn list(&self, name: Option<&str>) -> Result<BTreeMap<String, Listing>, RemoteError> {
        let listed = Handle::current().block_on(list(&*self.store, &self.prefix, name));
        listed.map_err(|error| RemoteError::Store { address: self.address.clone(), reason: self.reason(error) })
    }

    fn reason(&self, error: ReadError) -> String {
        match error {
            ReadError::Store(error) => reason(&error, &self.bucket),
            ReadError::Name(reason) => format!("{reason}: rename or delete this object"),
            ReadError::TooMany => "it has more than 100,000 objects: use a longer prefix".to_owned(),
            ReadError::Changed => "it changed".to_owned(),
            ReadError::Write(error) => format!("cannot write {}: {error}", self.folder.display()),
        }
    }

    fn unwritten(&self, error: std::io::Error) -> RemoteError {
        RemoteError::Folder { address: self.address.clone(), folder: self.folder.clone(), error }
    }
}

/// A folder's name that says which address it is the copy of, and belongs to no other address.
fn folder_name(address: &str) -> String {
    let readable: String =
        address.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '-' }).take(64).collect();
    format!("{readable}-{}", &blake3::hash(address.as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests;
