//! Errors of a repository, a model in it, or its `config.pbtxt`.

use std::{io, path::PathBuf};

use super::text_format::{Position, SyntaxError};

/// A repository or a model in it that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// No repository has the model.
    #[error("model '{name}' is not in {roots}; it holds: {found}")]
    NoModel {
        /// The model.
        name: String,
        /// The repositories.
        roots: String,
        /// The models in the repositories.
        found: String,
    },
    /// Two repositories have the model.
    #[error("model '{name}' is in more than one repository: {folders}; keep one")]
    Twice {
        /// The model.
        name: String,
        /// Its folders.
        folders: String,
    },
    /// No version that the version policy allows.
    #[error("model '{name}' has no version to serve in {folder}: {reason}; put its model file at {folder}/1/{file}", folder = folder.display())]
    NoVersion {
        /// The model.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// The model file's name.
        file: String,
        /// Why there is none.
        reason: String,
    },
    /// A version without its model file.
    #[error("model '{name}' has no model file {file}; {folder} holds {found}: put the file there, or name it with default_model_filename", file = file.display(), folder = folder.display())]
    NoFile {
        /// The model.
        name: String,
        /// Where the file should be.
        file: PathBuf,
        /// The version's folder.
        folder: PathBuf,
        /// What is there.
        found: String,
    },
    /// An invalid `config.pbtxt`.
    #[error("{path}:{space}{error}", path = path.display(), space = if error.has_position() { "" } else { " " })]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
}

/// A `config.pbtxt` that cannot be served. The message starts with `line:column: ` if the position is known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the text form of a model configuration.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Not the JSON form of a model configuration.
    #[error("not a model configuration in JSON: {0}")]
    Json(String),
    /// The name differs from the folder's.
    #[error("{}field 'name': it is \"{found}\" but the folder is \"{folder}\": make them equal or leave the name out", position(.at))]
    Name {
        /// Where.
        at: Option<Position>,
        /// The name in the file.
        found: String,
        /// The folder's name.
        folder: String,
    },
    /// A feature whose absence would change results.
    #[error("{}field '{field}': this server does not support it, and ignoring it would change results", position(.at))]
    Unsupported {
        /// Where.
        at: Option<Position>,
        /// The field.
        field: String,
    },
    /// A backend that this server does not have.
    #[error("{}field '{field}': \"{found}\" is not supported: this server runs the backends \"onnxruntime\" (platform \"onnxruntime_onnx\"), \"pytorch\" (platform \"pytorch_libtorch\") and \"image\", and ensemble_scheduling (platform \"ensemble\")", position(.at))]
    Backend {
        /// Where.
        at: Option<Position>,
        /// `backend` or `platform`.
        field: &'static str,
        /// The value.
        found: String,
    },
    /// A field for models with instances, in an ensemble's configuration.
    #[error("{}field '{field}': an ensemble cannot have it; set it in the configurations of its steps", position(.at))]
    Ensemble {
        /// Where.
        at: Option<Position>,
        /// The field.
        field: String,
    },
    /// A file outside of the model's folder, in a configuration that came over the wire.
    #[error(
        "field '{field}': {found:?} leads out of the model's folder, and a configuration that comes with a load request may only name files inside: put the file there, or set the field in config.pbtxt"
    )]
    WireFile {
        /// The field.
        field: String,
        /// The name in it.
        found: String,
    },
    /// An option that uses files or loads code, in a configuration that came over the wire.
    #[error(
        "field '{field}': {found:?} makes a provider use files or load code, which a configuration that comes with a load request may not: set the option in config.pbtxt"
    )]
    WireOption {
        /// The option.
        field: String,
        /// Its value.
        found: String,
    },
    /// A TorchScript file that came over the wire.
    #[error(
        "a TorchScript file is a program that can read and write files of the server, so it may not come with a load request: put it into the model repository"
    )]
    WireTorchScript,
    /// The file contradicts the model file, or itself.
    #[error("{0}")]
    Contradiction(String),
}

fn position(at: &Option<Position>) -> String {
    at.map_or_else(String::new, |at| format!("{at}: "))
}

impl ConfigError {
    /// A contradiction with this message.
    pub(super) fn contradiction(message: impl std::fmt::Display) -> Self {
        Self::Contradiction(message.to_string())
    }

    /// Whether the message starts with a position in the file.
    pub fn has_position(&self) -> bool {
        match self {
            Self::Syntax(_) => true,
            Self::Name { at, .. }
            | Self::Unsupported { at, .. }
            | Self::Backend { at, .. }
            | Self::Ensemble { at, .. } => at.is_some(),
            Self::Json(_)
            | Self::WireFile { .. }
            | Self::WireOption { .. }
            | Self::WireTorchScript
            | Self::Contradiction(_) => false,
        }
    }
}
