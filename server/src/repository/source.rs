//! A version of a model on disk.

use std::{fmt, path::PathBuf};

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
    /// The configuration as written, without defaults.
    pub config: ModelConfig,
    /// Where it was written.
    pub config_origin: ConfigOrigin,
}

/// Where a model's configuration comes from, which errors name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// Nowhere: the model file says everything.
    #[default]
    None,
    /// `config.pbtxt`.
    File(PathBuf),
    /// A load request.
    Request,
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the configuration that was made from the model file"),
            Self::File(path) => path.display().fmt(f),
            Self::Request => f.write_str("the configuration of the load request"),
        }
    }
}

/// The file in a model's folder that configures it.
pub(super) const CONFIG_FILE: &str = "config.pbtxt";
