//! What a model consists of on disk: the model file, and the files next to it, because ONNX stores external weights there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The files of a model at one time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Paths, times and sizes.
    files: Vec<(PathBuf, Option<SystemTime>, u64)>,
    has_folders: bool,
}

impl Files {
    /// The files next to a model file, and itself.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub(super) fn of(model_file: &Path) -> io::Result<Self> {
        let mut found = Self { files: Vec::new(), has_folders: false };
        for entry in fs::read_dir(model_file.parent().unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let Ok(data) = fs::metadata(entry.path()) else { continue };
            if data.is_file() {
                found.files.push((entry.path(), data.modified().ok(), data.len()));
            }
            // Links to files of a Kubernetes volume lead to folders whose names start with two dots.
            found.has_folders |= data.is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b"..");
        }
        found.files.sort();
        Ok(found)
    }

    /// Whether there are folders next to the model file, which [`hash`](Self::hash) does not cover.
    pub(super) fn has_folders(&self) -> bool {
        self.has_folders
    }

    /// The hash of the files' names and contents.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn hash(&self) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        for (path, ..) in &self.files {
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
            hasher.update_reader(fs::File::open(path)?)?;
        }
        Ok(hasher.finalize())
    }
}
