//! The weights of one depth, under torchvision's names.

mod safetensors;
mod seed;

use std::{collections::BTreeMap, path::PathBuf};

use crate::arch::Arch;

/// The weights of one depth: exactly the tensors of its layers, as FP32.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    arch: Arch,
    source: String,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Weights {
    /// The depth that these weights belong to.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The source of the weights: `seed 0`, or `sha256:...` of the file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The elements of one tensor, row-major.
    ///
    /// # Errors
    /// When the depth has no tensor of this name.
    pub fn tensor(&self, name: &str) -> Result<&[f32], WeightsError> {
        self.tensors.get(name).map(Vec::as_slice).ok_or_else(|| WeightsError::Tensors {
            arch: self.arch,
            problems: vec![format!("`{name}` is not a tensor of this model")],
        })
    }
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{}: not a usable safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ::safetensors::SafeTensorError,
    },
    /// Tensors are missing, unknown, of the wrong shape or type, or hold values that cannot be used.
    #[error("these are not weights of {arch}: {}", summary(problems))]
    Tensors {
        /// The requested depth.
        arch: Arch,
        /// One line for each wrong tensor.
        problems: Vec<String>,
    },
}

/// The first few problems and the number of the rest: a wrong file can have hundreds.
fn summary(problems: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match problems.len().saturating_sub(SHOWN) {
        0 => shown,
        rest => format!("{shown}; and {rest} more"),
    }
}
