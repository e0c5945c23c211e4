//! Writes files atomically: a reader sees the old content or the new content, never a part.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tempfile::Builder;

/// Prefix of the names of temporary files and directories; the dot hides them.
pub(crate) const TEMPORARY_PREFIX: &str = ".quintet-";

/// Replaces the file `path` with `content`, atomically. Creates missing parent directories.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    // In the same directory, so that the rename stays on one file system and is atomic.
    let mut file = Builder::new().prefix(TEMPORARY_PREFIX).permissions(readable()).tempfile_in(parent)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Whether `path` is a file with exactly this content.
pub(crate) fn has_content(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; 1 << 20];
    for expected in content.chunks(buffer.len()) {
        let found = &mut buffer[..expected.len()];
        file.read_exact(found)?;
        if found != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Temporary files are private by default, but the server that reads a model may run as another user.
fn readable() -> fs::Permissions {
    fs::Permissions::from_mode(0o644)
}
