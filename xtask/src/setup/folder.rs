//! Folders that are made once for a file of requirements.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Makes a folder unless it was made for these very requirements. A folder is finished when it holds a copy of them,
/// which is written last.
pub(super) fn once(
    folder: &Path,
    requirements: &Path,
    make: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = folder.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|made_for| made_for == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    make(folder, requirements)?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    eprintln!("set up: {}", folder.display());
    Ok(())
}
