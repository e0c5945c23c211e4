//! Why a graph cannot be quantised.

use std::path::PathBuf;

use quintet_onnxruntime::one_line;
use quintet_preprocess::ImageError;

/// Why a graph cannot be quantised.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum QuantizeError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{name}: {source}; a folder for --calibration must hold images only")]
    Image { name: String, source: ImageError },
    #[error("{}: a calibration needs at least {needed} photographs, of which every third is held back, not {found}", path.display())]
    TooFew { path: PathBuf, needed: usize, found: usize },
    #[error("`{0}` is not finite for a photograph: a model with these weights cannot be calibrated")]
    NotFinite(String),
    #[error("`{0}` cannot be made from a graph that is quantised already")]
    Quantized(String),
    #[error("ONNX Runtime: {}", one_line(.0.message()))]
    Runtime(#[from] ort::Error),
}
