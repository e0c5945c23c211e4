//! ONNX Runtime's execution providers, and the order in which a service tries them.

use std::{fmt, str::FromStr};

use ort::ep::ExecutionProviderDispatch;
use serde::{Deserialize, Serialize};

use super::tuning::Tuning;

/// Whether a model may run on another provider than the first that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProviderPolicy {
    /// It may: the next one is tried, and the reason is kept and shown.
    #[default]
    Fallback,
    /// It may not: the model does not load.
    Strict,
}

/// An execution provider that a service may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// The CPU; always there.
    Cpu,
}

impl Provider {
    /// ONNX Runtime's name, e.g. `CUDAExecutionProvider`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::Cpu => "CPUExecutionProvider",
        }
    }

    /// What is registered with a session. Registration fails loudly: the default is a silent fallback.
    /// TensorRT leaves what it cannot run to CUDA.
    pub(super) fn registrations(self, tuning: &Tuning) -> Vec<ExecutionProviderDispatch> {
        let cuda = || tuning.cuda.on_cuda(tuning.device).build().error_on_failure();
        match self {
            Self::TensorRt => {
                let tensorrt = tuning.tensorrt.on_tensorrt(tuning.device);
                vec![tensorrt.build().error_on_failure(), cuda()]
            }
            Self::Cuda => vec![cuda()],
            Self::Cpu => Vec::new(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        })
    }
}

/// Not the name of a provider.
#[derive(Debug, thiserror::Error)]
#[error("unknown provider '{0}': use tensorrt, cuda or cpu")]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        [Self::TensorRt, Self::Cuda, Self::Cpu]
            .into_iter()
            .find(|provider| provider.to_string() == name)
            .ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}
