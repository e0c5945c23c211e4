//! The file of a Unix domain socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
};

/// Why a socket's path is not free.
pub(super) enum Occupied {
    Alive,
    NoSocket,
    Unknown(io::Error),
}

/// Removes the socket file of a process that is gone.
pub(super) fn vacate(path: &Path) -> Result<(), Occupied> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Occupied::Unknown(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(Occupied::NoSocket),
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(Occupied::Alive),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the socket of a process that is gone");
            fs::remove_file(path).map_err(Occupied::Unknown)
        }
        Err(error) => Err(Occupied::Unknown(error)),
    }
}

/// A bound socket's file; it goes with this, unless another has taken its place.
pub(super) struct SocketFile {
    path: PathBuf,
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
