//! Where TensorRT keeps a model's engines: a folder for each model, GPU and library.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What an engine is good for, apart from the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCache {
    /// The folder of all engines.
    pub folder: PathBuf,
    /// What built it: version of ONNX Runtime, which stands for the TensorRT that it was compiled for.
    pub library: String,
}

impl EngineCache {
    /// The folder of the engines of a model on a GPU of this name; it is made where it is not there. Files
    /// beside the model's belong to it, as ONNX keeps weights there.
    ///
    /// # Errors
    /// When the model cannot be read or the folder cannot be made.
    pub(super) fn folder_of(&self, model_file: &Path, gpu: &str) -> io::Result<PathBuf> {
        let mut hasher = blake3::Hasher::new();
        let beside = model_file.parent().unwrap_or(Path::new("."));
        let mut files: Vec<_> = fs::read_dir(beside)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        files.retain(|path| path.is_file());
        files.sort();
        for path in files {
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
            hasher.update_reader(fs::File::open(path)?)?;
        }
        let hash = &hasher.finalize().to_hex()[..16];
        let folder = self.folder.join(format!("{hash}-{}-{}", plain(gpu), plain(&self.library)));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// Letters, digits, points and dashes: what a file name may hold anywhere.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_gpu_or_library_is_another_folder() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("1/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(&model, "a").unwrap();
        let cache = |library: &str| EngineCache { folder: root.path().join("engines"), library: library.to_owned() };
        let first = cache("1.31.1").folder_of(&model, "NVIDIA GeForce RTX 4090").unwrap();
        assert!(first.is_dir());
        assert!(first.to_str().unwrap().ends_with("-NVIDIA-GeForce-RTX-4090-1.31.1"), "{first:?}");
        assert_eq!(cache("1.31.1").folder_of(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
        assert_ne!(cache("1.31.1").folder_of(&model, "NVIDIA A100").unwrap(), first);
        assert_ne!(cache("1.32.0").folder_of(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
        fs::write(model.with_file_name("weights.bin"), "w").unwrap();
        assert_ne!(cache("1.31.1").folder_of(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
    }
}
