//! Creates a folder once per version of its requirements file.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Creates a folder and fills it with `fill`, unless it was filled for the same requirements. A copy of the
/// requirements in the folder, written last, marks it as complete.
///
/// # Errors
/// When `fill` fails, or a file cannot be read or written.
pub(super) fn create_once(
    folder: &Path,
    requirements: &Path,
    fill: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = folder.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fill(folder, requirements)?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    eprintln!("set up: {}", folder.display());
    Ok(())
}
