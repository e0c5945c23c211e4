//! The models of a repository on disk: their names, versions and files. Disks also hold what is none of these: such folders
//! are skipped, and named where it may be a mistake.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use quintet_proto::inference::{ModelConfig, model_version_policy::PolicyChoice};

use super::{
    backend::Backend,
    config,
    error::RepositoryError,
    source::{CONFIG_FILE, ConfigOrigin, ModelSource},
};

/// What is wrong with a folder that has the name of no version.
const NOT_A_VERSION: &str = "the folder of a version is a whole number from 1 on, without zeros in front";
/// The largest version: protocols have 64 bits with a sign.
const MAX_VERSION: u64 = i64::MAX as u64;
/// Files that an error lists.
const MAX_LISTED: usize = 8;

/// The models of repositories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ModelFolders {
    /// Their names, sorted.
    pub names: Vec<String>,
    /// Folders that are none, each with the reason.
    pub skipped: Vec<(PathBuf, &'static str)>,
}

/// The names of the models in these repositories, sorted.
///
/// # Errors
/// When a repository cannot be read.
pub fn model_names(roots: &[PathBuf]) -> Result<Vec<String>, RepositoryError> {
    Ok(model_folders(roots)?.names)
}

/// The models in these repositories, and the folders that are none.
///
/// # Errors
/// When a repository cannot be read.
pub fn model_folders(roots: &[PathBuf]) -> Result<ModelFolders, RepositoryError> {
    let mut found = ModelFolders::default();
    for root in roots {
        for (path, name) in entries(root)? {
            match name {
                _ if is_hidden(&path) || path.is_file() => {}
                _ if !path.is_dir() => found.skipped.push((path, "its link leads nowhere")),
                Some(name) if !is_name(&name) => {
                    found.skipped.push((path, "a name with a control character or a backslash breaks logs and paths"));
                }
                None => found.skipped.push((path, "its name is not UTF-8, which the protocols require")),
                // Every ext4 volume has one, which only root may read.
                Some(name) if name == "lost+found" => found.skipped.push((path, "it belongs to the file system")),
                Some(name) if holds_model(&path) => found.names.push(name),
                Some(_) => found.skipped.push((path, "it has neither config.pbtxt nor a version nor a model file")),
            }
        }
    }
    found.names.sort();
    found.names.dedup();
    Ok(found)
}

/// Whether this can be a model's name: the name of a folder, not a path.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(|it: char| it == '/' || it == '\\' || it.is_control())
}

/// Whether a folder is a model's, if perhaps with mistakes: then loading it tells what they are.
fn holds_model(folder: &Path) -> bool {
    let Ok(entries) = entries(folder) else { return true };
    let is_file = |name: &str| {
        let of_backends = Path::new(name).extension().is_some_and(|it| it == "onnx" || it == "pt");
        name == CONFIG_FILE || of_backends
    };
    entries.iter().any(|(path, name)| {
        name.as_ref().is_some_and(|name| (is_file(name) && path.is_file()) || (is_like_version(name) && path.is_dir()))
    })
}

/// The versions of a model that its `version_policy` serves (the latest one by default), ascending;
/// `config` replaces its `config.pbtxt`.
///
/// # Errors
/// When the model is missing, has no version to serve or no model file, is in two repositories, or has an invalid
/// `config.pbtxt`.
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

/// As [`find`], for a model whose folder is known. A version that has no model file is left for its load to refuse, unless
/// none has one.
///
/// # Errors
/// As [`find`].
pub fn find_in(folder: &Path, name: &str, config: Option<ModelConfig>) -> Result<Vec<ModelSource>, RepositoryError> {
    let folder = folder.to_owned();
    let path = folder.join(CONFIG_FILE);
    let (config, config_origin) = match config {
        Some(config) => (config, ConfigOrigin::Request),
        None => match fs::read(&path) {
            Ok(text) => {
                let config = config::parse(text, name);
                let config = config.map_err(|error| RepositoryError::Config { path: path.clone(), error })?;
                (config, ConfigOrigin::File(path))
            }
            // Without a configuration, everything is read from the model file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (ModelConfig { name: name.to_owned(), ..ModelConfig::default() }, ConfigOrigin::None)
            }
            Err(error) => return Err(RepositoryError::Io { path, error }),
        },
    };
    let file = match config.default_model_filename.as_str() {
        "" => Backend::of(&config).default_file(),
        file => file,
    };
    let Versions { numbers, ignored } = versions(&folder)?;
    let served = served_versions(&config, numbers.clone());
    if served.is_empty() {
        let reason = no_version(&numbers, &ignored);
        return Err(RepositoryError::NoVersion { name: name.to_owned(), folder, file: file.to_owned(), reason });
    }
    let sources: Vec<_> = served
        .into_iter()
        .map(|version| ModelSource {
            name: name.to_owned(),
            version,
            model_file: model_file(&folder.join(version.to_string()), file),
            folder: folder.clone(),
            config: config.clone(),
            config_origin: config_origin.clone(),
        })
        .collect();
    // Ensembles and built-in backends have a folder for each version, but no model file.
    let needs_file = Backend::of(&config).needs_file();
    match sources.last() {
        Some(latest) if needs_file && sources.iter().all(|source| !source.model_file.is_file()) => Err(no_file(latest)),
        _ => Ok(sources),
    }
}

/// Logs what looks like a version of this model and is none, and versions that its policy names and that are not there.
pub(super) fn warn_of_versions(source: &ModelSource) {
    let Versions { numbers, ignored } = versions(&source.folder).unwrap_or_default();
    let (model, folder) = (&source.name, source.folder.display());
    for name in ignored {
        tracing::warn!(model, folder = %folder, name, reason = NOT_A_VERSION, "a folder of the model is ignored");
    }
    for version in missing_versions(&source.config, &numbers) {
        tracing::warn!(model, folder = %folder, version, "version_policy names a version that is not there");
    }
}

/// The model file of a version: `file`, or in a folder of this name the file that ONNX Runtime opens there, beside its
/// external data.
fn model_file(version: &Path, file: &str) -> PathBuf {
    let path = version.join(file);
    if path.is_dir() { path.join(Backend::OnnxRuntime.default_file()) } else { path }
}

/// That a version has no model file, with what it has.
pub(super) fn no_file(source: &ModelSource) -> RepositoryError {
    let folder = source.folder.join(source.version.to_string());
    let mut names: Vec<_> = entries(&folder)
        .unwrap_or_default()
        .into_iter()
        .map(|(path, name)| name.unwrap_or_else(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    let more = names.len().saturating_sub(MAX_LISTED);
    names.truncate(MAX_LISTED);
    let mut found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    if more > 0 {
        found += &format!(" and {more} more");
    }
    RepositoryError::NoFile { name: source.name.clone(), file: source.model_file.clone(), folder, found }
}

/// Why none of these versions is served.
fn no_version(numbers: &[u64], ignored: &[String]) -> String {
    match (numbers, ignored) {
        ([], []) => "it has no folder for a version".to_owned(),
        ([], ignored) => format!("it has '{}', but {NOT_A_VERSION}", ignored.join("', '")),
        (numbers, _) => {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            format!("its version_policy serves none of {}", numbers.join(", "))
        }
    }
}

/// The folders of a model's versions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Versions {
    /// The versions, ascending.
    numbers: Vec<u64>,
    /// Folders that look like versions but are none.
    ignored: Vec<String>,
}

fn versions(folder: &Path) -> Result<Versions, RepositoryError> {
    let mut versions = Versions::default();
    for (path, name) in entries(folder)? {
        let Some(name) = name.filter(|_| path.is_dir() || path.is_symlink()) else { continue };
        match version(&name) {
            Some(number) if path.is_dir() => versions.numbers.push(number),
            Some(_) => versions.ignored.push(format!("{name} (a link that leads nowhere)")),
            None if is_like_version(&name) && path.is_dir() => versions.ignored.push(name),
            None => {}
        }
    }
    versions.numbers.sort_unstable();
    versions.ignored.sort();
    Ok(versions)
}

/// The version in a folder's name: the only way to write its number, so that the number leads back to the folder.
fn version(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok()?;
    ((1..=MAX_VERSION).contains(&number) && number.to_string() == name).then_some(number)
}

/// Whether a name may be meant as a version: `1`, `01`, `+1`, `v1`, `1.bak`.
fn is_like_version(name: &str) -> bool {
    name.trim_start_matches(['+', '-', 'v', 'V']).starts_with(|it: char| it.is_ascii_digit())
}

/// The versions in a model's folder, ascending.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn version_folders(folder: &Path) -> Result<Vec<u64>, RepositoryError> {
    Ok(versions(folder)?.numbers)
}

/// All versions of a model on disk, ascending, including those that its policy does not serve; none if unreadable.
pub(super) fn versions_on_disk(roots: &[PathBuf], name: &str) -> Vec<u64> {
    let mut versions: Vec<_> =
        roots.iter().flat_map(|root| version_folders(&root.join(name)).unwrap_or_default()).collect();
    versions.sort_unstable();
    versions
}

/// Applies the version policy to the versions on disk, which are ascending.
fn served_versions(config: &ModelConfig, on_disk: Vec<u64>) -> Vec<u64> {
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

/// The versions that the version policy names and the disk does not have.
fn missing_versions(config: &ModelConfig, on_disk: &[u64]) -> Vec<i64> {
    match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(PolicyChoice::Specific(policy)) => {
            let is_there = |version: i64| on_disk.iter().any(|&found| found as i64 == version);
            policy.versions.iter().copied().filter(|&version| !is_there(version)).collect()
        }
        _ => Vec::new(),
    }
}

/// What is in a folder, each with its name if that is UTF-8.
fn entries(parent: &Path) -> Result<Vec<(PathBuf, Option<String>)>, RepositoryError> {
    let fail = |error| RepositoryError::Io { path: parent.to_owned(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        found.push((entry.path(), entry.file_name().into_string().ok()));
    }
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    use proptest::prelude::*;
    use quintet_proto::inference::{ModelVersionPolicy, model_version_policy as policy};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn applies_version_policies() {
        let with = |choice| ModelConfig {
            version_policy: Some(ModelVersionPolicy { policy_choice: choice }),
            ..ModelConfig::default()
        };
        let disk = || vec![1, 2, 10];
        assert_eq!(served_versions(&ModelConfig::default(), disk()), [10]);
        assert_eq!(
            served_versions(&with(Some(PolicyChoice::Latest(policy::Latest { num_versions: 2 }))), disk()),
            [2, 10]
        );
        assert_eq!(served_versions(&with(Some(PolicyChoice::All(policy::All {}))), disk()), [1, 2, 10]);
        let specific = policy::Specific { versions: vec![2, 7] };
        let config = with(Some(PolicyChoice::Specific(specific)));
        assert_eq!((served_versions(&config, disk()), missing_versions(&config, &disk())), (vec![2], vec![7]));
    }

    /// Makes these folders in a new one.
    fn folder_with(folders: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        folders.iter().for_each(|folder| fs::create_dir_all(root.path().join(folder)).unwrap());
        root
    }

    #[test]
    fn only_the_canonical_form_of_a_number_is_a_version() {
        let names =
            ["1", "2", "10", "01", "0", "+3", "-3", "v1", "2.bak", "9223372036854775807", "9223372036854775808"];
        let root = folder_with(&[&names[..], &["labels", "warmup", ".1", "\u{0663}"]].concat());
        symlink("nowhere", root.path().join("7")).unwrap();
        fs::write(root.path().join("4"), "").unwrap();
        let Versions { numbers, ignored } = versions(root.path()).unwrap();
        assert_eq!(numbers, [1, 2, 10, i64::MAX as u64]);
        let all = ["+3", "-3", "0", "01", "2.bak", "7 (a link that leads nowhere)", "9223372036854775808", "v1"];
        assert_eq!(ignored, all);
    }

    proptest! {
        #[test]
        fn a_version_leads_back_to_its_folder(name in "[+v0]{0,2}[0-9]{0,20}\\PC?") {
            if let Some(version) = version(&name) {
                prop_assert_eq!(version.to_string(), name);
                prop_assert!(version > 0);
            }
        }
    }

    #[test]
    fn what_is_no_model_is_skipped_with_the_reason() {
        let models = ["resnet/1", "text with space/1", "zeros/01", "d\u{e9}j\u{e0}/2"];
        let junk = ["lost+found/1", "__pycache__", "notes/drafts", "new\nline/1", "back\\slash/1", ".git/1"];
        let root = folder_with(&[&models[..], &junk].concat());
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(root.path().join(OsStr::from_bytes(b"\xff\xfe")).join("1")).unwrap();
        fs::write(path("README.md"), "").unwrap();
        symlink("gone", path("link")).unwrap();
        for (model, file) in [("configured", "config.pbtxt"), ("flat", "model.onnx")] {
            fs::create_dir(path(model)).unwrap();
            fs::write(path(model).join(file), "").unwrap();
        }
        let ModelFolders { names, mut skipped } = model_folders(&[root.path().to_owned()]).unwrap();
        assert_eq!(names, ["configured", "d\u{e9}j\u{e0}", "flat", "resnet", "text with space", "zeros"]);
        skipped.sort();
        let skipped: Vec<_> = skipped
            .into_iter()
            .map(|(path, reason)| format!("{:?}: {reason}", path.strip_prefix(root.path()).unwrap()))
            .collect();
        insta::assert_snapshot!(skipped.join("\n"), @r#"
        "__pycache__": it has neither config.pbtxt nor a version nor a model file
        "back\\slash": a name with a control character or a backslash breaks logs and paths
        "link": its link leads nowhere
        "lost+found": it belongs to the file system
        "new\nline": a name with a control character or a backslash breaks logs and paths
        "notes": it has neither config.pbtxt nor a version nor a model file
        "\xFF\xFE": its name is not UTF-8, which the protocols require
        "#);
    }

    /// The error for model `m` in a repository with these folders and files.
    fn refusal(folders: &[&str], files: &[(&str, &str)]) -> String {
        let root = folder_with(folders);
        files.iter().for_each(|(file, text)| fs::write(root.path().join(file), text).unwrap());
        let error = find(&[root.path().to_owned()], "m", None).unwrap_err().to_string();
        error.replace(root.path().to_str().unwrap(), "R")
    }

    #[test]
    fn errors_name_what_is_there() {
        let specific = "version_policy { specific { versions: [ 3 ] } }";
        let refusals = [
            refusal(&["m/weights"], &[("m/config.pbtxt", "")]),
            refusal(&["m/01", "m/v2"], &[]),
            refusal(&["m/1", "m/2"], &[("m/config.pbtxt", specific)]),
            refusal(&["m/1", "m/3"], &[("m/3/model.plan", ""), ("m/3/notes", ""), ("m/1/model.onnx", "")]),
            refusal(&["m/1"], &[]),
            refusal(&["m/1/model.onnx"], &[]),
        ];
        insta::assert_snapshot!(refusals.join("\n"), @r"
        model 'm' has no version to serve in R/m: it has no folder for a version; put its model file at R/m/1/model.onnx
        model 'm' has no version to serve in R/m: it has '01', 'v2', but the folder of a version is a whole number from 1 on, without zeros in front; put its model file at R/m/1/model.onnx
        model 'm' has no version to serve in R/m: its version_policy serves none of 1, 2; put its model file at R/m/1/model.onnx
        model 'm' has no model file R/m/3/model.onnx; R/m/3 holds model.plan, notes: put the file there, or name it with default_model_filename
        model 'm' has no model file R/m/1/model.onnx; R/m/1 holds nothing: put the file there, or name it with default_model_filename
        model 'm' has no model file R/m/1/model.onnx/model.onnx; R/m/1 holds model.onnx: put the file there, or name it with default_model_filename
        ");
    }

    #[test]
    fn a_model_file_may_be_a_folder_and_a_version_may_lack_it() {
        let root = folder_with(&["m/1/model.onnx", "m/2"]);
        fs::write(root.path().join("m/1/model.onnx/model.onnx"), "").unwrap();
        fs::write(root.path().join("m/config.pbtxt"), "version_policy { all { } }").unwrap();
        let sources = find(&[root.path().to_owned()], "m", None).unwrap();
        let files = sources.iter().map(|source| (source.version, source.model_file.is_file()));
        assert_eq!(files.collect::<Vec<_>>(), [(1, true), (2, false)]);
        assert_eq!(sources[0].config_origin, ConfigOrigin::File(root.path().join("m/config.pbtxt")));
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
