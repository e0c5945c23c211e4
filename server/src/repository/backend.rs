//! The backend that a model's configuration names.

use quintet_proto::inference::{ModelConfig, model_config::SchedulingChoice};

use crate::{backend::image, kserve::ensemble};

/// ONNX Runtime's backend and platform in `config.pbtxt`.
const ONNXRUNTIME: (&str, &str) = ("onnxruntime", "onnxruntime_onnx");

/// libtorch's backend in `config.pbtxt`, and Triton's older name for it as a platform.
const PYTORCH: (&str, &str) = ("pytorch", "pytorch_libtorch");

/// The backend of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// ONNX Runtime, from `model.onnx`.
    OnnxRuntime,
    /// libtorch, from the TorchScript file `model.pt`.
    PyTorch,
    /// The built-in image backend, without a file.
    Image,
    /// An ensemble of other models, without a file.
    Ensemble,
}

impl Backend {
    /// The backend of a configuration that [`super::config`] has accepted.
    pub(super) fn of(config: &ModelConfig) -> Self {
        match &config.scheduling_choice {
            Some(SchedulingChoice::EnsembleScheduling(_)) => Self::Ensemble,
            _ if config.backend == image::NAME => Self::Image,
            _ if config.backend == PYTORCH.0 || config.platform == PYTORCH.1 => Self::PyTorch,
            _ => Self::OnnxRuntime,
        }
    }

    /// The values of `backend` and `platform` that are valid for this configuration.
    pub(super) fn accepted(config: &ModelConfig) -> (&'static [&'static str], &'static [&'static str]) {
        match config.backend.as_str() {
            _ if Self::of(config) == Self::Ensemble => (&[], &[ensemble::PLATFORM]),
            "" => (&[], &[ONNXRUNTIME.1, PYTORCH.1]),
            "pytorch" => (&[PYTORCH.0], &[PYTORCH.1]),
            _ => (&[ONNXRUNTIME.0, image::NAME], &[ONNXRUNTIME.1]),
        }
    }

    /// Whether a model of this backend has a model file. Other models are only a configuration.
    pub(super) fn needs_file(self) -> bool {
        matches!(self, Self::OnnxRuntime | Self::PyTorch)
    }

    /// The name of the model file if the configuration does not set one.
    pub(super) fn default_file(self) -> &'static str {
        if self == Self::PyTorch { "model.pt" } else { "model.onnx" }
    }

    /// Sets `backend` and `platform` to the names that Triton gives them.
    pub(super) fn name_in(self, config: &mut ModelConfig) {
        match self {
            Self::Ensemble => ensemble::PLATFORM.clone_into(&mut config.platform),
            Self::Image => {}
            Self::PyTorch => (config.backend, config.platform) = (PYTORCH.0.to_owned(), PYTORCH.1.to_owned()),
            Self::OnnxRuntime => {
                (config.backend, config.platform) = (ONNXRUNTIME.0.to_owned(), ONNXRUNTIME.1.to_owned());
            }
        }
    }
}
