//! A version of a model on disk.

use std::path::PathBuf;

use quintet_proto::inference::ModelConfig;

/// A version of a model, found on disk but not loaded.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// Name of the model: that of its folder.
    pub name: String,
    /// The version's number.
    pub version: u64,
    /// The model file.
    pub model_file: PathBuf,
    /// The model's folder, in which label files are.
    pub folder: PathBuf,
    /// `config.pbtxt` as written, without defaults.
    pub config: ModelConfig,
}

impl ModelSource {
    /// The path of its `config.pbtxt`, which may not exist.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG_FILE)
    }
}

/// The file in a model's folder that configures it.
pub(super) const CONFIG_FILE: &str = "config.pbtxt";
