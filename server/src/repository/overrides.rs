//! Overrides of a load request: a configuration, and a model's files.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use quintet_engine::InferError;
use quintet_proto::inference::ModelConfig;
use tempfile::TempDir;

use super::config::from_json;

/// The overrides of a load request; without any, the model is loaded from the repository.
#[derive(Debug, Default)]
pub struct Overrides {
    config: Option<String>,
    files: Vec<(PathBuf, Bytes)>,
}

/// The prefix of a file's path in a parameter's name.
pub const FILE_PREFIX: &str = "file:";

impl Overrides {
    /// Adds a parameter: `config` with Triton's JSON, or `file:<version>/<name>` with the file's bytes.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for another name, a path outside the model's folder, and a `config`
    /// that is not UTF-8.
    pub fn insert(&mut self, parameter: &str, value: Bytes) -> Result<(), InferError> {
        if parameter == "config" {
            let text = String::from_utf8(value.into())
                .map_err(|_| InferError::invalid("load parameter 'config' is not UTF-8"))?;
            self.config = Some(text);
            return Ok(());
        }
        let Some(path) = parameter.strip_prefix(FILE_PREFIX).map(Path::new) else {
            return Err(InferError::invalid(format_args!(
                "unrecognized load parameter '{parameter}': use 'config' or 'file:<version>/<file>'"
            )));
        };
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.components().count() == 0 {
            return Err(InferError::invalid(format_args!(
                "load parameter '{parameter}' must name a file inside the model's folder"
            )));
        }
        self.files.push((path.to_owned(), value));
        Ok(())
    }

    /// Whether there are files.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// The configuration for the model `name`, if there is one.
    ///
    /// # Errors
    /// When it is invalid, or when there are files without a configuration.
    pub(super) fn config(&self, name: &str) -> Result<Option<ModelConfig>, InferError> {
        let Some(text) = &self.config else {
            if self.has_files() {
                return Err(InferError::invalid(format_args!(
                    "failed to load '{name}', override model directory requires model config be provided"
                )));
            }
            return Ok(None);
        };
        from_json(text, name)
            .map(Some)
            .map_err(|error| InferError::invalid(format_args!("failed to load '{name}': config: {error}")))
    }

    /// Writes the files into a new folder, which replaces the model's folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write_files(self, name: &str) -> Result<Option<TempDir>, InferError> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let write = || {
            let folder = tempfile::Builder::new().prefix("quintet-model-").tempdir()?;
            for (path, content) in &self.files {
                let path = folder.path().join(path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, content)?;
            }
            Ok(folder)
        };
        write().map(Some).map_err(|error: std::io::Error| {
            InferError::internal(format_args!(
                "failed to load '{name}', failed to poll from model repository: cannot write its files: {error}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_in_their_folder() {
        let mut overrides = Overrides::default();
        for parameter in ["file:../x", "file:/etc/passwd", "file:", "file:1/../../x", "files:1/x"] {
            assert!(overrides.insert(parameter, Bytes::new()).is_err(), "{parameter}");
        }
        overrides.insert("file:1/model.onnx", Bytes::from_static(b"x")).unwrap();
        assert!(overrides.config("m").unwrap_err().to_string().contains("requires model config be provided"));
        overrides.insert("config", Bytes::from_static(b"{}")).unwrap();
        assert_eq!(overrides.config("m").unwrap().unwrap().name, "m");
        let folder = overrides.write_files("m").unwrap().unwrap();
        assert_eq!(fs::read(folder.path().join("1/model.onnx")).unwrap(), b"x");
    }
}
