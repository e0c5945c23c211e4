//! Triton's model repository on disk: `<root>/<model>/config.pbtxt`, `<root>/<model>/<version>/model.onnx`.

mod batching;
mod config;
mod spec;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use quintet_proto::inference::{ModelConfig, model_version_policy::PolicyChoice};

pub use config::{ConfigError, parse as parse_config, to_json as config_to_json};
pub use spec::{SpecDetails, complete};

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
    /// `config.pbtxt` as written; defaults are not filled in yet.
    pub config: ModelConfig,
}

/// A repository or a model in it that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No repository holds the model.
    #[error("model '{name}' is not in {roots}; it holds: {found}")]
    NoModel {
        /// The model.
        name: String,
        /// The repositories.
        roots: String,
        /// The models that there are.
        found: String,
    },
    /// No version folder that the policy allows.
    #[error("model '{name}' has no version to serve in {folder}; put its model file at {folder}/1/{file}", folder = folder.display())]
    NoVersion {
        /// The model.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// The model file's name.
        file: String,
    },
    /// `config.pbtxt` is wrong.
    #[error("{path}: {error}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
}

/// The names of the models in these repositories, sorted.
///
/// # Errors
/// When a repository cannot be read.
pub fn model_names(roots: &[PathBuf]) -> Result<Vec<String>, RepositoryError> {
    let mut names = Vec::new();
    for root in roots {
        names.extend(folders(root)?);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The versions of a model that its `version_policy` serves (the latest one by default), ascending.
///
/// # Errors
/// When there is no such model, no such version, or its `config.pbtxt` is wrong.
pub fn find(roots: &[PathBuf], name: &str) -> Result<Vec<ModelSource>, RepositoryError> {
    let Some(folder) = roots.iter().map(|root| root.join(name)).find(|folder| folder.is_dir()) else {
        return Err(RepositoryError::NoModel {
            name: name.to_owned(),
            roots: roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "),
            found: model_names(roots)?.join(", "),
        });
    };
    let path = folder.join("config.pbtxt");
    let config = match fs::read_to_string(&path) {
        Ok(text) => config::parse(&text, name).map_err(|error| RepositoryError::Config { path, error })?,
        // Without one, everything is read from the model file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ModelConfig { name: name.to_owned(), ..ModelConfig::default() }
        }
        Err(error) => return Err(RepositoryError::Io { path, error }),
    };
    let file = match config.default_model_filename.as_str() {
        "" => "model.onnx",
        file => file,
    };
    let on_disk = folders(&folder)?.iter().filter_map(|folder| folder.parse().ok()).collect();
    let sources: Vec<_> = served_versions(&config, on_disk)
        .into_iter()
        .map(|version| ModelSource {
            name: name.to_owned(),
            version,
            model_file: folder.join(version.to_string()).join(file),
            folder: folder.clone(),
            config: config.clone(),
        })
        .filter(|source| source.model_file.is_file())
        .collect();
    if sources.is_empty() {
        return Err(RepositoryError::NoVersion { name: name.to_owned(), folder, file: file.to_owned() });
    }
    Ok(sources)
}

/// Applies the version policy to the versions on disk.
fn served_versions(config: &ModelConfig, mut on_disk: Vec<u64>) -> Vec<u64> {
    on_disk.retain(|&version| version > 0);
    on_disk.sort_unstable();
    let latest = |count: u32| on_disk[on_disk.len().saturating_sub(count.max(1) as usize)..].to_vec();
    match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        None => latest(1),
        Some(PolicyChoice::Latest(policy)) => latest(policy.num_versions),
        Some(PolicyChoice::All(_)) => on_disk,
        Some(PolicyChoice::Specific(policy)) => {
            on_disk.into_iter().filter(|&version| policy.versions.contains(&(version as i64))).collect()
        }
    }
}

fn folders(parent: &Path) -> Result<Vec<String>, RepositoryError> {
    let fail = |error| RepositoryError::Io { path: parent.to_owned(), error };
    let mut names = Vec::new();
    for entry in fs::read_dir(parent).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use quintet_proto::inference::{ModelVersionPolicy, model_version_policy as policy};

    use super::*;

    #[test]
    fn version_policies() {
        let with = |choice| ModelConfig {
            version_policy: Some(ModelVersionPolicy { policy_choice: choice }),
            ..ModelConfig::default()
        };
        let disk = || vec![10, 0, 2, 1];
        assert_eq!(served_versions(&ModelConfig::default(), disk()), [10]);
        assert_eq!(
            served_versions(&with(Some(PolicyChoice::Latest(policy::Latest { num_versions: 2 }))), disk()),
            [2, 10]
        );
        assert_eq!(served_versions(&with(Some(PolicyChoice::All(policy::All {}))), disk()), [1, 2, 10]);
        let specific = policy::Specific { versions: vec![2, 7] };
        assert_eq!(served_versions(&with(Some(PolicyChoice::Specific(specific))), disk()), [2]);
    }

    #[test]
    fn a_missing_model_is_told_apart_from_those_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("resnet18/1")).unwrap();
        let roots = [root.path().to_owned()];
        assert!(find(&roots, "resnet50").unwrap_err().to_string().ends_with("it holds: resnet18"));
        assert!(find(&roots, "resnet18").unwrap_err().to_string().contains("resnet18/1/model.onnx"));
    }
}
