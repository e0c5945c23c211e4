//! The cache of TensorRT engines: one folder for each model, GPU and library version.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::content::Files;

/// The folder of all cached engines, and the library version that they are valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCache {
    /// The folder of all engines.
    pub folder: PathBuf,
    /// Version of ONNX Runtime, which also identifies the TensorRT version that it was compiled for.
    pub library: String,
}

impl EngineCache {
    /// The folder for the engines of a model on a GPU of this name, created if it is missing. The key also covers the
    /// files next to the model file, because ONNX stores external weights there.
    ///
    /// # Errors
    /// When the model cannot be read or the folder cannot be created.
    pub(super) fn model_folder(&self, model_file: &Path, gpu: &str) -> io::Result<PathBuf> {
        let hash = &Files::of(model_file)?.hash()?.to_hex()[..16];
        let folder = self.folder.join(format!("{hash}-{}-{}", plain(gpu), plain(&self.library)));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The text with only letters, digits, points and dashes, which are valid in a file name on every system.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_gpu_and_library_has_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("1/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(&model, "a").unwrap();
        let cache = |library: &str| EngineCache { folder: root.path().join("engines"), library: library.to_owned() };
        let first = cache("1.31.1").model_folder(&model, "NVIDIA GeForce RTX 4090").unwrap();
        assert!(first.is_dir());
        assert!(first.to_str().unwrap().ends_with("-NVIDIA-GeForce-RTX-4090-1.31.1"), "{first:?}");
        assert_eq!(cache("1.31.1").model_folder(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
        assert_ne!(cache("1.31.1").model_folder(&model, "NVIDIA A100").unwrap(), first);
        assert_ne!(cache("1.32.0").model_folder(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
        fs::write(model.with_file_name("weights.bin"), "w").unwrap();
        assert_ne!(cache("1.31.1").model_folder(&model, "NVIDIA GeForce RTX 4090").unwrap(), first);
    }
}
