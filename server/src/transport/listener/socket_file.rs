//! The file of a Unix domain socket: stale ones are replaced, and a listener removes its own.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
};

/// Why a socket's path is not free.
pub(super) enum RemoveError {
    /// A process listens on it.
    InUse,
    /// The file is not a socket.
    NotASocket,
    /// The file cannot be checked or removed.
    Unknown(io::Error),
}

/// Removes the socket file of a process that has ended.
///
/// # Errors
/// When the path is not free.
pub(super) fn remove_stale(path: &Path) -> Result<(), RemoveError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RemoveError::Unknown(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(RemoveError::NotASocket),
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(RemoveError::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the socket of a process that has ended");
            fs::remove_file(path).map_err(RemoveError::Unknown)
        }
        Err(error) => Err(RemoveError::Unknown(error)),
    }
}

/// The file of a bound socket. It is removed on drop, unless another file has replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, which identify the file.
    id: (u64, u64),
}

impl SocketFile {
    /// The file at `path`, which exists.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: Self::id(path)? })
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
