//! What a configuration that came over the wire may name: files in the model's folder, and no provider option that reads or
//! writes files, or loads code; and which models may come as files. What the model's own `config.pbtxt` says, too, is its owner's word.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use quintet_proto::inference::{ModelConfig, model_warmup::input::InputDataType};

use super::{
    accelerators, backend::Backend, config, error::ConfigError, folders::version_folders, source::CONFIG_FILE,
    warmup::WARMUP_FOLDER,
};
use crate::backend::onnx::touches_files;

/// A value of a configuration that names a file.
#[derive(PartialEq, Eq)]
struct Named {
    field: String,
    value: String,
    within: Within,
}

/// Where the file of a field is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// In the model's folder.
    Folder,
    /// In the folder of a version.
    Version,
    /// In the folder of warm-up data.
    WarmUp,
    /// Wherever a provider of ONNX Runtime puts it.
    Provider,
}

/// Checks a configuration that came over the wire for the model in `folder`. `own` is the model's configuration on disk.
///
/// # Errors
/// The first field that names what is outside of the folder, with what to do.
pub(super) fn check(config: &ModelConfig, own: Option<&ModelConfig>, folder: &Path) -> Result<(), ConfigError> {
    let own = own.map(named).unwrap_or_default();
    match named(config).into_iter().find(|named| !own.contains(named) && !named.is_inside(folder)) {
        None => Ok(()),
        Some(Named { field, value, within: Within::Provider }) => Err(ConfigError::WireOption { field, found: value }),
        Some(Named { field, value, .. }) => Err(ConfigError::WireFile { field, found: value }),
    }
}

/// Checks the kind of model whose files came over the wire. TorchScript has operators that map, read and write files by name
/// (`aten::from_file`, `aten::save`); libtorch runs them when the model is loaded or asked.
///
/// # Errors
/// When it is TorchScript.
pub(super) fn check_files(config: &ModelConfig) -> Result<(), ConfigError> {
    match Backend::of(config) {
        Backend::PyTorch => Err(ConfigError::WireTorchScript),
        Backend::OnnxRuntime | Backend::Image | Backend::Ensemble => Ok(()),
    }
}

/// The configuration of a model in one of these repositories; `None` without one, or if it cannot be read.
pub(super) fn own_config(roots: &[PathBuf], name: &str) -> Option<ModelConfig> {
    let text = roots.iter().find_map(|root| fs::read(root.join(name).join(CONFIG_FILE)).ok())?;
    config::parse(text, name).ok()
}

/// Every value that names a file, or makes a provider use one.
fn named(config: &ModelConfig) -> Vec<Named> {
    let labels = config.output.iter().map(|output| &output.label_filename).filter(|name| !name.is_empty());
    let labels = labels.map(|name| Named::new("output.label_filename", name, Within::Folder));
    // The name that a model has anyway is nobody's choice.
    let is_chosen = !["", Backend::of(config).default_file()].contains(&config.default_model_filename.as_str());
    let file = is_chosen.then(|| Named::new("default_model_filename", &config.default_model_filename, Within::Version));
    let inputs = config.model_warmup.iter().flat_map(|warmup| warmup.inputs.values());
    let samples = inputs.filter_map(|input| match &input.input_data_type {
        Some(InputDataType::InputDataFile(name)) => {
            Some(Named::new("model_warmup.inputs.input_data_file", name, Within::WarmUp))
        }
        _ => None,
    });
    let options = accelerators::options(config).into_iter().filter(|(_, name, value)| touches_files(name, value));
    let options = options.map(|(field, _, value)| Named::new(&field, value, Within::Provider));
    labels.chain(file).chain(samples).chain(options).collect()
}

impl Named {
    fn new(field: &str, value: &str, within: Within) -> Self {
        Self { field: field.to_owned(), value: value.to_owned(), within }
    }

    /// Whether the file is in its part of the model's folder, links followed. A file that is not there is not outside.
    fn is_inside(&self, folder: &Path) -> bool {
        let name = Path::new(&self.value);
        let is_plain = !self.value.contains('\0') && name.components().all(|part| matches!(part, Component::Normal(_)));
        let Ok(folder) = folder.canonicalize() else { return false };
        let parts = match self.within {
            Within::Folder => vec![folder],
            Within::WarmUp => vec![folder.join(WARMUP_FOLDER)],
            Within::Version => {
                let versions = version_folders(&folder).unwrap_or_default();
                versions.iter().map(|version| folder.join(version.to_string())).collect()
            }
            Within::Provider => return false,
        };
        is_plain && parts.iter().all(|part| part.join(name).canonicalize().map_or(true, |file| file.starts_with(part)))
    }
}
