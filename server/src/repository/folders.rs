//! The models of a repository on disk: their names, versions and files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use quintet_proto::inference::{ModelConfig, model_version_policy::PolicyChoice};

use super::{
    backend::Backend,
    config,
    error::RepositoryError,
    source::{CONFIG_FILE, ModelSource},
};

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

/// The versions of a model that its `version_policy` serves (the latest one by default), ascending;
/// `config` replaces its `config.pbtxt`.
///
/// # Errors
/// When the model is missing, has no version to serve, is in two repositories, or has an invalid `config.pbtxt`.
pub fn find(roots: &[PathBuf], name: &str, config: Option<ModelConfig>) -> Result<Vec<ModelSource>, RepositoryError> {
    let print = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let folders: Vec<_> = roots.iter().map(|root| root.join(name)).filter(|folder| folder.is_dir()).collect();
    match &folders[..] {
        [] => Err(RepositoryError::NoModel {
            name: name.to_owned(),
            roots: print(roots),
            found: model_names(roots)?.join(", "),
        }),
        [folder] => find_in(folder, name, config),
        _ => Err(RepositoryError::Twice { name: name.to_owned(), folders: print(&folders) }),
    }
}

/// As [`find`], for a model whose folder is known.
///
/// # Errors
/// As [`find`].
pub fn find_in(folder: &Path, name: &str, config: Option<ModelConfig>) -> Result<Vec<ModelSource>, RepositoryError> {
    let folder = folder.to_owned();
    let path = folder.join(CONFIG_FILE);
    let config = match config {
        Some(config) => config,
        None => match fs::read(&path) {
            Ok(text) => config::parse(text, name).map_err(|error| RepositoryError::Config { path, error })?,
            // Without a configuration, everything is read from the model file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ModelConfig { name: name.to_owned(), ..ModelConfig::default() }
            }
            Err(error) => return Err(RepositoryError::Io { path, error }),
        },
    };
    let file = match config.default_model_filename.as_str() {
        "" => Backend::of(&config).default_file(),
        file => file,
    };
    let on_disk = version_folders(&folder)?;
    let sources: Vec<_> = served_versions(&config, on_disk)
        .into_iter()
        .map(|version| ModelSource {
            name: name.to_owned(),
            version,
            model_file: folder.join(version.to_string()).join(file),
            folder: folder.clone(),
            config: config.clone(),
        })
        // Ensembles and built-in backends have a folder for each version, but no model file.
        .filter(|source| !Backend::of(&config).needs_file() || source.model_file.is_file())
        .collect();
    if sources.is_empty() {
        return Err(RepositoryError::NoVersion { name: name.to_owned(), folder, file: file.to_owned() });
    }
    Ok(sources)
}

/// The versions in a model's folder, in any order.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn version_folders(folder: &Path) -> Result<Vec<u64>, RepositoryError> {
    Ok(folders(folder)?.iter().filter_map(|folder| folder.parse().ok()).collect())
}

/// All versions of a model on disk, ascending, including those that its policy does not serve; none if unreadable.
pub(super) fn versions_on_disk(roots: &[PathBuf], name: &str) -> Vec<u64> {
    let mut versions: Vec<_> =
        roots.iter().flat_map(|root| version_folders(&root.join(name)).unwrap_or_default()).collect();
    versions.sort_unstable();
    versions
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
    fn applies_version_policies() {
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
    fn a_model_in_two_repositories_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roots = [one.path().to_owned(), two.path().to_owned()];
        roots.iter().for_each(|root| fs::create_dir_all(root.join("m/1")).unwrap());
        assert!(find(&roots, "m", None).unwrap_err().to_string().contains("in more than one repository"));
    }

    #[test]
    fn reports_an_invalid_config_with_file_line_and_field() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("m/1")).unwrap();
        fs::write(root.path().join("m/config.pbtxt"), "max_batch_size: 8\ninput { dimz: 3 }\n").unwrap();
        let error = find(&[root.path().to_owned()], "m", None).unwrap_err().to_string();
        let expected = "m/config.pbtxt:2:9: field 'input': unknown field 'dimz'; did you mean 'dims'?";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn reports_a_missing_model_or_version() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("resnet18/1")).unwrap();
        let roots = [root.path().to_owned()];
        assert!(find(&roots, "resnet50", None).unwrap_err().to_string().ends_with("it holds: resnet18"));
        assert!(find(&roots, "resnet18", None).unwrap_err().to_string().contains("resnet18/1/model.onnx"));
    }
}
