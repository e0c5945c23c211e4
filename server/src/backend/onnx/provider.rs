//! ONNX Runtime's execution providers, and the order in which a service tries them.

use std::{fmt, str::FromStr};

use ort::ep::ExecutionProviderDispatch;
use serde::{Deserialize, Serialize};

use super::tuning::Tuning;

/// What to do if the first requested provider does not work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProviderPolicy {
    /// Use the next provider, and report the reason
    #[default]
    Fallback,
    /// Refuse to load the model
    Strict,
}

/// An execution provider that a service may request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// The CPU, which is always available.
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

    /// The providers to register with a session. A failed registration is an error: ONNX Runtime's default is a silent
    /// fallback. With TensorRT, CUDA runs the nodes that TensorRT cannot run.
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

/// The text is not the name of a provider.
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
