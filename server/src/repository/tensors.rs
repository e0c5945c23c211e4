//! Checks the tensors of a configuration against those of the model file.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use quintet_engine::{DataType, TensorSpec};
use quintet_proto::inference::{ModelConfig, ModelInput, ModelOutput, ModelTensorReshape};

use super::error::ConfigError;
use crate::backend::reshape::Reshape;

/// A tensor as a configuration lists it.
pub(super) struct Configured<'a> {
    /// `input` or `output`, for messages.
    what: &'static str,
    name: &'a str,
    data_type: i32,
    /// Without the batch dimension; -1 is dynamic.
    dims: &'a [i64],
    reshape: Option<&'a ModelTensorReshape>,
}

impl<'a> From<&'a ModelInput> for Configured<'a> {
    fn from(input: &'a ModelInput) -> Self {
        let ModelInput { name, data_type, dims, reshape, .. } = input;
        Self { what: "input", name, data_type: *data_type, dims, reshape: reshape.as_ref() }
    }
}

impl<'a> From<&'a ModelOutput> for Configured<'a> {
    fn from(output: &'a ModelOutput) -> Self {
        let ModelOutput { name, data_type, dims, reshape, .. } = output;
        Self { what: "output", name, data_type: *data_type, dims, reshape: reshape.as_ref() }
    }
}

impl Configured<'_> {
    /// The tensor that clients see. `model` are the model file's tensors; `batches` is whether their first dimension is
    /// the batch.
    ///
    /// # Errors
    /// When the model has no such tensor, or one of another type or shape.
    pub(super) fn check(&self, model: &[TensorSpec], batches: bool) -> Result<TensorSpec, ConfigError> {
        let Self { what, name, data_type, dims, reshape } = *self;
        let Some(tensor) = model.iter().find(|tensor| tensor.name == name) else {
            let names: Vec<_> = model.iter().map(|tensor| tensor.name.as_str()).collect();
            return Err(ConfigError::contradiction(format_args!(
                "the model has no {what} '{name}'; its {what}s are {}",
                names.join(", ")
            )));
        };
        if DataType::from_number(data_type) != Some(tensor.data_type) {
            let configured = DataType::from_number(data_type).map_or("TYPE_INVALID", DataType::name);
            return Err(ConfigError::contradiction(format_args!(
                "{what} '{name}' is configured as {configured} but is {} in the model",
                tensor.data_type
            )));
        }
        let model_dims = match (batches, tensor.dims.split_first()) {
            _ if tensor.is_unranked => {
                if what == "input" && dims.is_empty() && reshape.is_none() {
                    return Err(ConfigError::contradiction(format_args!(
                        "the model file does not say how many dimensions input '{name}' has: list it with its dims"
                    )));
                }
                &[]
            }
            (false, _) => &tensor.dims[..],
            (true, Some((None, rest))) => rest,
            (true, _) => {
                return Err(ConfigError::contradiction(format_args!(
                    "max_batch_size is above 0 but the first dimension of {what} '{name}' is not dynamic in the model"
                )));
            }
        };
        if self.reshape().is_some_and(|reshape| !reshape.fits()) {
            let to = reshape.map(|reshape| &reshape.shape[..]).unwrap_or_default();
            return Err(ConfigError::contradiction(format_args!(
                "{what} '{name}' with dims {dims:?} cannot have the reshape {to:?}"
            )));
        }
        let configured = known(reshape.map_or(dims, |reshape| &reshape.shape));
        let fits = tensor.is_unranked
            || configured.len() == model_dims.len()
                && configured.iter().zip(model_dims).all(|(c, m)| c.is_none() || m.is_none() || c == m);
        if !fits {
            let print = |dims: &[Option<usize>]| TensorSpec::new("", tensor.data_type, dims).announced_shape(false);
            return Err(ConfigError::contradiction(format_args!(
                "{what} '{name}' has dims {:?} in the configuration but {:?} in the model{}",
                print(&configured),
                print(model_dims),
                if batches { " (without the batch dimension)" } else { "" }
            )));
        }
        let scalar = dims == [1] && reshape.is_some_and(|reshape| reshape.shape.is_empty());
        Ok(TensorSpec { optional: tensor.optional, scalar, ..TensorSpec::new(name, tensor.data_type, known(dims)) })
    }

    /// The reshape from the client's shape to the model's, if they differ.
    pub(super) fn reshape(&self) -> Option<Reshape> {
        self.reshape.map(|reshape| Reshape { from: known(self.dims), to: known(&reshape.shape) })
    }
}

/// -1 is a dynamic dimension.
fn known(dims: &[i64]) -> Vec<Option<usize>> {
    dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}

/// The labels in a file as editors write it: with a byte order mark, carriage returns and empty lines at the end.
///
/// # Errors
/// The number of the first line that is not UTF-8.
fn labels(file: &[u8]) -> Result<Arc<[String]>, usize> {
    let text = std::str::from_utf8(file)
        .map_err(|error| 1 + file[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end();
    if text.is_empty() {
        return Ok(Arc::default());
    }
    Ok(text.split('\n').map(|line| line.trim().to_owned()).collect())
}

/// Label files, with one name on each line. Each file is read once.
pub(super) struct LabelFiles<'a> {
    folder: &'a Path,
    read: HashMap<String, Arc<[String]>>,
}

/// The file in a model's folder that has its labels if the configuration names none.
const LABELS_FILE: &str = "labels.txt";

impl<'a> LabelFiles<'a> {
    /// The label files in this folder.
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder, read: HashMap::new() }
    }

    /// Names [`LABELS_FILE`], if it is there and the configuration names no label file, as that of the outputs with as many
    /// elements as it has labels. `config` has all dimensions.
    ///
    /// # Errors
    /// Why the file is not used.
    pub(super) fn find(&mut self, config: &mut ModelConfig) -> Result<(), String> {
        let named = config.output.iter().any(|output| !output.label_filename.is_empty());
        if named || !self.folder.join(LABELS_FILE).is_file() {
            return Ok(());
        }
        let labels = self.get(LABELS_FILE).map_err(|error| error.to_string())?.unwrap_or_default();
        let is_only = config.output.len() == 1;
        let fits = |output: &&mut ModelOutput| match output.dims.last() {
            Some(-1) => is_only,
            last => last.is_some_and(|&last| usize::try_from(last) == Ok(labels.len())),
        };
        let mut fitting = config.output.iter_mut().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(format!("{LABELS_FILE} ({} labels, and no output with as many elements)", labels.len()));
        }
        fitting.for_each(|output| LABELS_FILE.clone_into(&mut output.label_filename));
        Ok(())
    }

    /// The labels in `file`; none without a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn get(&mut self, file: &str) -> Result<Option<Arc<[String]>>, ConfigError> {
        if file.is_empty() {
            return Ok(None);
        }
        if !self.read.contains_key(file) {
            let path = self.folder.join(file);
            let fail = |error: &dyn std::fmt::Display| {
                ConfigError::contradiction(format_args!("cannot read label file {}: {error}", path.display()))
            };
            let bytes = fs::read(&path).map_err(|error| fail(&error))?;
            let labels = labels(&bytes)
                .map_err(|line| fail(&format_args!("line {line} is not UTF-8: save the file as UTF-8")))?;
            self.read.insert(file.to_owned(), labels);
        }
        Ok(self.read.get(file).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beside_a_model_go_to_the_outputs_that_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        let found = |outputs: &[(&str, &[i64])]| {
            let output = |(name, dims): &(&str, &[i64])| ModelOutput {
                name: (*name).into(),
                dims: dims.to_vec(),
                ..ModelOutput::default()
            };
            let mut config = ModelConfig { output: outputs.iter().map(output).collect(), ..ModelConfig::default() };
            LabelFiles::new(folder.path()).find(&mut config)?;
            let labelled = config.output.into_iter().filter(|output| !output.label_filename.is_empty());
            Ok::<_, String>(labelled.map(|output| output.name).collect::<Vec<_>>())
        };
        assert_eq!(found(&[("y", &[2])]), Ok(vec![]), "there is no file");
        fs::write(folder.path().join("labels.txt"), "cat\ndog\n").unwrap();
        assert_eq!(
            found(&[("y", &[2]), ("z", &[3, 2]), ("w", &[512]), ("v", &[-1])]),
            Ok(vec!["y".into(), "z".into()])
        );
        assert_eq!(found(&[("y", &[-1])]), Ok(vec!["y".to_owned()]));
        assert_eq!(found(&[("y", &[3])]), Err("labels.txt (2 labels, and no output with as many elements)".to_owned()));
    }

    #[test]
    fn labels_are_read_as_editors_write_them() {
        let read = |file: &[u8]| labels(file).map(|labels| labels.join("|"));
        assert_eq!(read("\u{feff}cat\r\ndog \r\n\r\n".as_bytes()), Ok("cat|dog".to_owned()));
        assert_eq!(read(b"cat\n\ndog\n"), Ok("cat||dog".to_owned()), "an empty label in between keeps its place");
        assert_eq!(read(b"cat\nd\xf6g\n"), Err(2));
        assert_eq!(read(b"\xff\xfec\0a\0t\0"), Err(1), "UTF-16");
    }
}
