//! The fingerprint of a model's folder, which shows changes: its files with times and sizes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Maximum depth of folders, so that a cycle of links ends.
const MAX_DEPTH: usize = 16;

/// The files of a model's folder. Unreadable files are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

impl Fingerprint {
    /// The fingerprint of the model `name` in these repositories.
    pub(super) fn of(roots: &[PathBuf], name: &str) -> Self {
        let mut files = BTreeMap::new();
        for root in roots {
            collect(&root.join(name), MAX_DEPTH, &mut files);
        }
        Self(files)
    }
}

fn collect(folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, (Option<SystemTime>, u64)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(data) if data.is_dir() && depth > 0 => collect(&path, depth - 1, files),
            Ok(data) if data.is_file() => {
                files.insert(path, (data.modified().ok(), data.len()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_counts() {
        let root = tempfile::tempdir().unwrap();
        let roots = [root.path().to_owned()];
        assert_eq!(Fingerprint::of(&roots, "m"), Fingerprint::default());
        fs::create_dir_all(root.path().join("m/1")).unwrap();
        fs::write(root.path().join("m/1/model.onnx"), "a").unwrap();
        let before = Fingerprint::of(&roots, "m");
        assert_eq!(Fingerprint::of(&roots, "m"), before);
        fs::write(root.path().join("m/1/model.onnx"), "ab").unwrap();
        assert_ne!(Fingerprint::of(&roots, "m"), before);
    }
}
