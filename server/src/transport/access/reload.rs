//! Values made from files, which are read again when the files change.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};

/// How often files are read again. They are compared by content: a change within one tick of the file system's clock
/// counts, and so does a link that points elsewhere, as Kubernetes changes secrets.
const INTERVAL: Duration = Duration::from_secs(2);

/// The longest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A value made from files.
pub struct Reloaded<T> {
    current: RwLock<Arc<T>>,
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    /// The hash of the contents that were tried last, good or not.
    tried: Mutex<blake3::Hash>,
}

type Make<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// Files that can be read again.
pub trait Reload: Send + Sync {
    /// Reads the files again. If they have changed and are usable, the new value takes effect; if they are not usable,
    /// the old one stays, with one warning for each change.
    fn reload(&self);
}

impl<T> Reloaded<T> {
    /// Makes the value from the contents of these files, in order.
    ///
    /// # Errors
    /// When a file cannot be read, or `make` fails. The text names the file.
    pub fn new(
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read(&paths)?;
        let value = make(&contents)?;
        Ok(Self {
            current: RwLock::new(Arc::new(value)),
            paths,
            make: Box::new(make),
            tried: Mutex::new(hash(Ok(&contents))),
        })
    }

    /// The value of the files as last read.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn reload(&self) {
        let contents = read(&self.paths);
        let hash = hash(contents.as_deref());
        let mut tried = self.tried.lock();
        if *tried == hash {
            return;
        }
        *tried = hash;
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        match contents.and_then(|contents| (self.make)(&contents)) {
            Ok(value) => {
                *self.current.write() = Arc::new(value);
                tracing::info!(files = paths.join(", "), "read again after a change");
            }
            Err(error) => {
                tracing::warn!(files = paths.join(", "), error, "changed, but not usable: the old ones stay in effect");
            }
        }
    }
}

/// Reads the files again every two seconds, for ever.
pub async fn watch(values: Vec<Arc<dyn Reload>>) {
    let values: Arc<[_]> = values.into();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let values = Arc::clone(&values);
        // A file system may be slow.
        let _ = tokio::task::spawn_blocking(move || values.iter().for_each(|value| value.reload())).await;
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths
        .iter()
        .map(|path| read_one(path).map_err(|error| format!("cannot read {}: {error}", path.display())))
        .collect()
}

fn read_one(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    fs::read(path)
}

fn hash(contents: Result<&[Vec<u8>], &String>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    match contents {
        Ok(contents) => contents.iter().for_each(|content| {
            hasher.update(blake3::hash(content).as_bytes());
        }),
        Err(error) => {
            hasher.update(error.as_bytes());
        }
    }
    hasher.finalize()
}

/// Warns if every user of the machine can read a file with a secret.
pub(super) fn warn_if_readable_by_all(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        let file = path.display();
        tracing::warn!(%file, "every user of this machine can read this secret: `chmod o-r` protects it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let number = |contents: &[Vec<u8>]| String::from_utf8_lossy(&contents[0]).trim().parse::<u32>();
        let make = move |contents: &[Vec<u8>]| number(contents).map_err(|error| error.to_string());
        assert!(Reloaded::new(vec![file.clone()], make).is_err_and(|error| error.contains("number: ")));
        fs::write(&file, "1").unwrap();
        let value = Reloaded::new(vec![file.clone()], make).unwrap_or_else(|error| panic!("{error}"));
        fs::write(&file, "2").unwrap();
        assert_eq!(*value.current(), 1);
        value.reload();
        assert_eq!(*value.current(), 2);
        fs::write(&file, "x").unwrap();
        value.reload();
        assert_eq!(*value.current(), 2);
        fs::remove_file(&file).unwrap();
        value.reload();
        assert_eq!(*value.current(), 2);
        fs::write(&file, "3").unwrap();
        value.reload();
        assert_eq!(*value.current(), 3);
    }
}
