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
#[serde(try_from = "String", into = "String")]
pub enum Provider {
    /// NVIDIA TensorRT, which ONNX Runtime's GPU build has.
    TensorRt,
    /// NVIDIA CUDA, which ONNX Runtime's GPU build has.
    Cuda,
    /// The CPU, which is always available.
    Cpu,
    /// A provider in a library of its own.
    Plugin(Plugin),
}

/// A provider in a library of its own, which `--ep-library` registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// NVIDIA TensorRT for RTX.
    TensorRtRtx,
    /// Intel OpenVINO.
    OpenVino,
    /// Another one, under ONNX Runtime's name for it, without options.
    Other(&'static str),
}

/// Below ort's limit for the name of a device's provider.
const MAX_NAME_BYTES: usize = 100;

/// The end of ONNX Runtime's names of providers.
const SUFFIX: &str = "ExecutionProvider";

/// The providers that have short names.
const NAMED: [(Provider, &str); 5] = [
    (Provider::TensorRt, "tensorrt"),
    (Provider::Plugin(Plugin::TensorRtRtx), "tensorrt-rtx"),
    (Provider::Cuda, "cuda"),
    (Provider::Plugin(Plugin::OpenVino), "openvino"),
    (Provider::Cpu, "cpu"),
];

impl Provider {
    /// The providers that run on NVIDIA's GPUs.
    pub const ON_GPUS: [Self; 3] = [Self::TensorRt, Self::Cuda, Self::Plugin(Plugin::TensorRtRtx)];

    /// ONNX Runtime's name, e.g. `CUDAExecutionProvider`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::Cpu => "CPUExecutionProvider",
            Self::Plugin(Plugin::TensorRtRtx) => "NvTensorRTRTXExecutionProvider",
            Self::Plugin(Plugin::OpenVino) => "OpenVINOExecutionProvider",
            Self::Plugin(Plugin::Other(name)) => name,
        }
    }

    /// The providers of ONNX Runtime itself to register with a session. A failed registration is an error: ONNX Runtime's
    /// default is a silent fallback. With TensorRT, CUDA runs the nodes that TensorRT cannot run.
    pub(super) fn registrations(self, tuning: &Tuning) -> Vec<ExecutionProviderDispatch> {
        let cuda = || tuning.cuda.on_cuda(tuning.device).build().error_on_failure();
        match self {
            Self::TensorRt => {
                let tensorrt = tuning.tensorrt.on_tensorrt(tuning.device);
                vec![tensorrt.build().error_on_failure(), cuda()]
            }
            Self::Cuda => vec![cuda()],
            Self::Cpu | Self::Plugin(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMED.iter().find(|(provider, _)| provider == self);
        f.write_str(named.map_or_else(|| self.name(), |(_, name)| name))
    }
}

/// The text is not the name of a provider.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown provider '{0}': use tensorrt, tensorrt-rtx, cuda, openvino, cpu, or ONNX Runtime's name of a provider that \
     --ep-library registers, such as QNNExecutionProvider"
)]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        if let Some((provider, _)) =
            NAMED.into_iter().find(|(provider, short)| name == *short || name == provider.name())
        {
            return Ok(provider);
        }
        match name.strip_suffix(SUFFIX) {
            // Only settings have such names, which are read once: the memory is bounded.
            Some(own) if !own.is_empty() && name.len() < MAX_NAME_BYTES => {
                Ok(Self::Plugin(Plugin::Other(name.to_owned().leak())))
            }
            _ => Err(UnknownProvider(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Provider {
    type Error = UnknownProvider;

    fn try_from(name: String) -> Result<Self, UnknownProvider> {
        name.parse()
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_short_names_or_onnx_runtimes() {
        for (provider, name) in NAMED {
            assert_eq!((provider.to_string().as_str(), name.parse::<Provider>().unwrap()), (name, provider));
            assert_eq!(provider.name().parse::<Provider>().unwrap(), provider);
        }
        let other: Provider = "QNNExecutionProvider".parse().unwrap();
        assert_eq!((other.name(), other.to_string().as_str()), ("QNNExecutionProvider", "QNNExecutionProvider"));
        for wrong in ["qnn", "ExecutionProvider", "", "CUDA"] {
            assert!(wrong.parse::<Provider>().is_err(), "{wrong}");
        }
    }
}
