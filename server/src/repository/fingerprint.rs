//! The fingerprint of a model's folder, which shows changes: its files and links with times and sizes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Maximum depth of folders.
const MAX_DEPTH: usize = 16;
/// Maximum number of files and folders of a model that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The files of a model's folder. Unreadable files are left out.
///
/// Links to files are followed, and links to folders if these are in the repository or in the model's folder: so the links
/// of a Kubernetes volume are (`..data`). A link to another folder counts as what it names, without the files in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, Found>);

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    File(Option<SystemTime>, u64),
    Link(PathBuf),
}

impl Fingerprint {
    /// The fingerprint of the model in this folder of a repository.
    pub(super) fn of_folder(folder: &Path) -> Self {
        let roots: Vec<_> = folder.parent().map(Path::to_owned).into_iter().collect();
        folder.file_name().and_then(OsStr::to_str).map_or_else(Self::default, |name| Self::of(&roots, name))
    }

    /// The fingerprint of the model `name` in these repositories.
    pub(super) fn of(roots: &[PathBuf], name: &str) -> Self {
        let folders = roots.iter().map(|root| root.join(name));
        let inside = roots.iter().cloned().chain(folders.clone()).filter_map(|folder| folder.canonicalize().ok());
        let mut walk = Walk { inside: inside.collect(), seen: BTreeSet::new(), entries: 0, files: BTreeMap::new() };
        for folder in folders {
            walk.folder(&folder, MAX_DEPTH);
        }
        Self(walk.files)
    }
}

struct Walk {
    /// Where links to folders may lead.
    inside: Vec<PathBuf>,
    /// Folders, without links in their paths: each is entered once, so a ring of links ends.
    seen: BTreeSet<PathBuf>,
    entries: usize,
    files: BTreeMap<PathBuf, Found>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if !folder.canonicalize().is_ok_and(|real| self.seen.insert(real)) {
            return;
        }
        let left = MAX_ENTRIES - self.entries;
        let mut paths: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(left).collect();
        self.entries += paths.len();
        // The same order each time, as a folder may be reached in two ways.
        paths.sort_unstable();
        for path in paths {
            let Ok(data) = fs::metadata(&path) else { continue };
            if data.is_file() {
                self.files.insert(path, Found::File(data.modified().ok(), data.len()));
                continue;
            }
            if !data.is_dir() {
                continue;
            }
            let target = fs::read_link(&path).ok();
            let enter = target.is_none() || self.is_inside(&path);
            self.files.extend(target.map(|target| (path.clone(), Found::Link(target))));
            if enter && depth > 0 {
                self.folder(&path, depth - 1);
            }
        }
    }

    fn is_inside(&self, link: &Path) -> bool {
        link.canonicalize().is_ok_and(|real| self.inside.iter().any(|folder| real.starts_with(folder)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    #[test]
    fn a_volume_of_kubernetes_changes_by_its_link() {
        let root = tempfile::tempdir().unwrap();
        let (roots, model) = ([root.path().to_owned()], root.path().join("m"));
        for version in ["..2026_01", "..2026_02"] {
            fs::create_dir_all(model.join(version)).unwrap();
            fs::write(model.join(version).join("config.pbtxt"), version).unwrap();
        }
        symlink("..2026_01", model.join("..data")).unwrap();
        symlink("..data/config.pbtxt", model.join("config.pbtxt")).unwrap();
        let before = Fingerprint::of(&roots, "m");
        fs::remove_file(model.join("..data")).unwrap();
        symlink("..2026_02", model.join("..data")).unwrap();
        assert_ne!(Fingerprint::of(&roots, "m"), before);
    }

    #[test]
    fn links_out_of_the_repository_and_rings_of_links_end() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (roots, model) = ([root.path().to_owned()], root.path().join("m"));
        fs::create_dir_all(model.join("1")).unwrap();
        fs::create_dir_all(root.path().join("shared")).unwrap();
        fs::write(root.path().join("shared/weights"), "a").unwrap();
        fs::write(outside.path().join("file"), "a").unwrap();
        symlink("/", model.join("everything")).unwrap();
        symlink(outside.path(), model.join("2")).unwrap();
        symlink(outside.path().join("file"), model.join("1/model.onnx")).unwrap();
        symlink("../shared", model.join("shared")).unwrap();
        // With folders entered twice, these would be 16 levels of 4 folders each.
        for (index, target) in [".", "..", "../m", "1"].into_iter().enumerate() {
            symlink(target, model.join(format!("ring{index}"))).unwrap();
            symlink("../..", model.join(format!("1/ring{index}"))).unwrap();
        }
        let before = Fingerprint::of(&roots, "m");
        let files: Vec<_> = before.0.iter().filter(|(_, found)| matches!(found, Found::File(..))).collect();
        let names: Vec<_> = files.iter().filter_map(|(path, _)| path.file_name()).collect();
        assert_eq!(names, ["model.onnx", "weights"], "and nothing of /");
        fs::write(outside.path().join("file"), "ab").unwrap();
        assert_ne!(Fingerprint::of(&roots, "m"), before, "the file of a link counts");
    }

    #[test]
    fn the_number_of_entries_is_limited() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("m/1");
        fs::create_dir_all(&folder).unwrap();
        for file in 0..MAX_ENTRIES + 10 {
            fs::File::create(folder.join(file.to_string())).unwrap();
        }
        // One of the entries is the folder.
        assert_eq!(Fingerprint::of(&[root.path().to_owned()], "m").0.len(), MAX_ENTRIES - 1);
    }
}
