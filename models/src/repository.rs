//! Writes a Triton model repository: `<model>/config.pbtxt`, `<model>/labels.txt`, `<model>/1/model.onnx`.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message as _;

use crate::{
    arch::CLASSES,
    atomic::{self, TEMPORARY_PREFIX},
    graph::Graph,
    variant::Variant,
};

/// The names of the 1000 ImageNet classes, one per line, in the order of the logits.
/// Source: the metadata of torchvision's weights (`ResNet50_Weights.IMAGENET1K_V1.meta["categories"]`, 0.29).
pub const LABELS: &str = include_str!("labels.txt");

/// The path of the model file in a model's directory.
pub(crate) const MODEL_FILE: &str = "1/model.onnx";
const CONFIG_FILE: &str = "config.pbtxt";
const LABELS_FILE: &str = "labels.txt";

/// How the server batches requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    max_batch_size: usize,
    warm_batch_sizes: Vec<usize>,
}

impl Batching {
    /// Batches of up to `max_batch_size`. The server warms up each of `warm_batch_sizes`.
    ///
    /// # Errors
    /// When the maximum is 0, or a size to warm up is 0 or above the maximum.
    pub fn new(max_batch_size: usize, warm_batch_sizes: &[usize]) -> Result<Self, RepositoryError> {
        if max_batch_size == 0 {
            return Err(RepositoryError::MaxBatchSize);
        }
        let mut sizes = warm_batch_sizes.to_vec();
        sizes.sort_unstable();
        sizes.dedup();
        if let Some(&size) = sizes.iter().find(|size| !(1..=max_batch_size).contains(size)) {
            return Err(RepositoryError::WarmBatchSize { size, max_batch_size });
        }
        Ok(Self { max_batch_size, warm_batch_sizes: sizes })
    }

    /// Batches of up to `max_batch_size`. The server warms up those of 1, 4, 8, 16 and 32 that are not larger.
    ///
    /// # Errors
    /// When the maximum is 0.
    pub fn up_to(max_batch_size: usize) -> Result<Self, RepositoryError> {
        let sizes: Vec<_> = [1, 4, 8, 16, 32].into_iter().filter(|size| *size <= max_batch_size).collect();
        Self::new(max_batch_size, &sizes)
    }
}

/// The result of [`write()`] for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The model's directory.
    pub path: PathBuf,
    /// False if all its files existed already, byte for byte.
    pub changed: bool,
}

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RepositoryError {
    #[error("the maximum batch size must not be 0, because these models have a batch dimension; use 1 or more")]
    MaxBatchSize,
    #[error("cannot warm up a batch of {size}: sizes must be between 1 and the maximum, {max_batch_size}")]
    WarmBatchSize { size: usize, max_batch_size: usize },
    #[error(
        "`{0}` cannot be made from this graph: INT8 needs the graph of a calibration, the other variants its source"
    )]
    Variant(String),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Writes one model into the repository `root`.
///
/// A new model appears atomically. Files of an existing model are replaced one by one, each atomically, and only if
/// they differ.
///
/// # Errors
/// When the graph has no such variant, or a file cannot be read or written.
pub fn write(root: &Path, graph: &Graph, variant: Variant, batching: &Batching) -> Result<Written, RepositoryError> {
    let name = graph.name(variant);
    let path = root.join(&name);
    let at = |source| RepositoryError::Io { path: path.clone(), source };
    let model = graph.model(variant).ok_or_else(|| RepositoryError::Variant(name.clone()))?.encode_to_vec();
    let config = config(graph, variant, batching);
    // The configuration comes last: a server that watches for it must find the model in place.
    let files = [(MODEL_FILE, model.as_slice()), (LABELS_FILE, LABELS.as_bytes()), (CONFIG_FILE, config.as_bytes())];
    if path.exists() {
        let mut changed = false;
        for (file, content) in files {
            let file = path.join(file);
            if !atomic::has_content(&file, content).map_err(at)? {
                atomic::write(&file, content).map_err(at)?;
                changed = true;
            }
        }
        return Ok(Written { path, changed });
    }
    publish(root, &path, &files).map_err(at)?;
    Ok(Written { path, changed: true })
}

/// Writes the files into a hidden directory beside `path`, then renames it.
fn publish(root: &Path, path: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let hidden = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(root)?;
    let staged = hidden.path().join("model");
    for (file, content) in files {
        atomic::write(&staged.join(file), content)?;
    }
    fs::rename(&staged, path)
}

/// The model's `config.pbtxt`, for Triton's ONNX Runtime backend and for Quintet's server. It names what the two would choose
/// differently: instances (Triton has two on a CPU), and how cuDNN's convolutions are chosen (here by heuristics, as its exhaustive
/// search times each batch size anew).
fn config(graph: &Graph, variant: Variant, batching: &Batching) -> String {
    let name = graph.name(variant);
    let input_type = variant.triton_type();
    let dims = variant.dims().map(|dim| dim.to_string()).join(", ");
    let features = graph.arch().embedding_len();
    let max_batch_size = batching.max_batch_size;
    let mut text = format!(
        r#"name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
  {{ name: "image" data_type: {input_type} dims: [ {dims} ] }}
]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {CLASSES} ] label_filename: "{LABELS_FILE}" }},
  {{ name: "embedding" data_type: TYPE_FP32 dims: [ {features} ] }}
]
dynamic_batching {{ }}
instance_group [ {{ count: 1 }} ]
parameters {{ key: "cudnn_conv_algo_search" value {{ string_value: "1" }} }}
"#
    );
    for size in &batching.warm_batch_sizes {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"model_warmup {{
  name: "batch {size}"
  batch_size: {size}
  inputs {{
    key: "image"
    value: {{ data_type: {input_type} dims: [ {dims} ] zero_data: true }}
  }}
}}
"#
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arch::Arch, weights::Weights};

    fn resnet18(seed: u64) -> Graph {
        Graph::new(&Weights::from_seed(Arch::ResNet18, seed)).unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rewrites_only_the_files_that_differ() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("models");
        let batching = Batching::up_to(8).unwrap();
        let graph = resnet18(0);
        let write = |graph: &Graph, batching: &Batching| super::write(&root, graph, Variant::Fp32, batching).unwrap();

        let first = write(&graph, &batching);
        assert_eq!((first.path.as_path(), first.changed), (root.join("resnet18").as_path(), true));
        assert_eq!(names(&root), ["resnet18"]);
        assert_eq!(names(&first.path), ["1", "config.pbtxt", "labels.txt"]);
        let model = first.path.join(MODEL_FILE);
        let modified = || fs::metadata(&model).unwrap().modified().unwrap();
        let written = modified();

        assert!(!write(&graph, &batching).changed);
        assert!(write(&graph, &Batching::up_to(4).unwrap()).changed);
        assert_eq!(modified(), written, "only the configuration differed");
        assert!(write(&resnet18(1), &batching).changed);
        assert_ne!(modified(), written);
        assert_eq!(names(&first.path.join("1")), ["model.onnx"]);
    }

    #[test]
    fn a_failed_write_leaves_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("models");
        fs::write(&root, "a file where the repository should be").unwrap();
        let batching = Batching::up_to(8).unwrap();
        let error = write(&root, &resnet18(0), Variant::U8, &batching).unwrap_err();
        assert!(error.to_string().contains("models/resnet18_u8"), "{error}");
        assert_eq!(names(dir.path()), ["models"]);
    }

    #[test]
    fn configuration_of_a_u8_model() {
        let text = config(&resnet18(0), Variant::U8, &Batching::up_to(4).unwrap());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn rejects_invalid_batch_sizes() {
        let message = |max, sizes: &[usize]| Batching::new(max, sizes).unwrap_err().to_string();
        assert!(message(0, &[]).contains("use 1 or more"));
        assert!(message(8, &[1, 9]).contains("batch of 9"));
        assert!(message(8, &[0]).contains("batch of 0"));
        assert_eq!(Batching::up_to(5).unwrap(), Batching::new(5, &[4, 1, 4]).unwrap());
    }

    #[test]
    fn every_class_has_a_label() {
        let labels: Vec<_> = LABELS.lines().collect();
        assert_eq!(labels.len(), CLASSES);
        assert_eq!((labels[0], labels[281], labels[999]), ("tench", "tabby", "toilet tissue"));
    }
}
