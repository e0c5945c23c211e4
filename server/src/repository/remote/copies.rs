//! The folder of a copy: the models in it, what they were copied from, and how a model is replaced.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::listing::{Listing, Version, is_folder};

/// Hidden names beside the models, which are no models then.
const LOCK: &str = ".lock";
const RECORD: &str = ".copied.json";
const NEW: &str = ".new";
const OLD: &str = ".old";

/// A folder with models that were copied.
#[derive(Debug)]
pub(super) struct Copies {
    folder: PathBuf,
    /// What each model was copied from. A model whose copy is not whole has none.
    models: BTreeMap<String, Listing>,
    /// Locked as long as the process has it.
    _lock: File,
}

impl Copies {
    /// Opens the folder, which is made if need be. `None` if another process has it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn open(folder: PathBuf) -> io::Result<Option<Self>> {
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A record that cannot be read says nothing: everything is copied again.
        let models = fs::read(folder.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Some(Self { folder, models: models.unwrap_or_default(), _lock: lock }))
    }

    /// Whether the copy of a model is what the store has.
    pub(super) fn is_current(&self, name: &str, listing: &Listing) -> bool {
        self.models.get(name) == Some(listing) && listing.iter().all(|(path, version)| self.has(name, path, version))
    }

    /// Bytes of all models but this one.
    pub(super) fn bytes_without(&self, name: &str) -> u64 {
        let others = self.models.iter().filter(|(other, _)| *other != name);
        others.flat_map(|(_, listing)| listing.values()).map(|version| version.bytes).sum()
    }

    /// Removes every model but these.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && !keep(&name) {
                self.forget(&name)?;
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Begins a new copy of a model, in a folder beside the models.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn begin(&self) -> io::Result<New> {
        let folder = self.folder.join(NEW);
        remove(&folder)?;
        fs::create_dir(&folder)?;
        Ok(New { folder })
    }

    /// Adds a file to the new copy without reading it, if the old copy has this version of it or it is empty. Otherwise returns
    /// the file to write.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn add(&self, new: &New, name: &str, path: &str, version: &Version) -> io::Result<Option<File>> {
        let to = new.folder.join(path);
        if is_folder(path, version) {
            return fs::create_dir_all(to).map(|()| None);
        }
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        let is_same = self.models.get(name).and_then(|listing| listing.get(path)) == Some(version);
        if is_same && self.has(name, path, version) {
            let from = self.folder.join(name).join(path);
            // Not every file system has hard links.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
            return Ok(None);
        }
        File::create_new(to).map(Some)
    }

    /// Puts the new copy in the place of the model's.
    ///
    /// # Errors
    /// When a folder cannot be renamed; the model is then copied again.
    pub(super) fn replace(&mut self, name: &str, new: New, listing: Listing) -> io::Result<()> {
        let (model, old) = (self.folder.join(name), self.folder.join(OLD));
        remove(&old)?;
        // A process that ends in between leaves a model without a record.
        self.forget(name)?;
        if fs::exists(&model)? {
            fs::rename(&model, &old)?;
        }
        fs::rename(new.folder, model)?;
        self.models.insert(name.to_owned(), listing);
        self.save()?;
        remove(&old)
    }

    fn has(&self, name: &str, path: &str, version: &Version) -> bool {
        let data = fs::symlink_metadata(self.folder.join(name).join(path));
        let is_folder = is_folder(path, version);
        data.is_ok_and(|data| if is_folder { data.is_dir() } else { data.is_file() && data.len() == version.bytes })
    }

    fn forget(&mut self, name: &str) -> io::Result<()> {
        if self.models.remove(name).is_some() { self.save() } else { Ok(()) }
    }

    fn save(&self) -> io::Result<()> {
        let (to, new) = (self.folder.join(RECORD), self.folder.join(format!("{RECORD}.new")));
        fs::write(&new, serde_json::to_vec(&self.models)?)?;
        fs::rename(new, to)
    }
}

/// A copy of a model that is not in its place yet.
pub(super) struct New {
    folder: PathBuf,
}

/// Removes a file or folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
