//! A model file opened by ONNX Runtime, or by libtorch in builds with it.

use std::path::Path;

use anyhow::anyhow;
use quintet_engine::{DataType, Instance, Placement, TensorSpec};
use quintet_proto::inference::{ModelConfig, ModelTensorReshape};

#[cfg(feature = "torch")]
use crate::backend::{onnx::Plugin, torch::TorchInstance};
use crate::backend::{
    onnx::{LoadedSession, Provider},
    reshape::Reshaped,
};
use crate::repository::{error::ConfigError, spec::SpecDetails};

/// Inputs and outputs of a model, with their batch dimension.
pub(super) type Tensors = (Vec<TensorSpec>, Vec<TensorSpec>);

/// A model file that a backend has read.
pub(super) enum ModelFile {
    Onnx(LoadedSession),
    #[cfg(feature = "torch")]
    Torch(Box<TorchInstance>, Tensors),
}

impl ModelFile {
    pub(super) fn inputs(&self) -> &[TensorSpec] {
        match self {
            Self::Onnx(session) => &session.inputs,
            #[cfg(feature = "torch")]
            Self::Torch(_, (inputs, _)) => inputs,
        }
    }

    pub(super) fn outputs(&self) -> &[TensorSpec] {
        match self {
            Self::Onnx(session) => &session.outputs,
            #[cfg(feature = "torch")]
            Self::Torch(_, (_, outputs)) => outputs,
        }
    }

    pub(super) fn placement(&self) -> Placement {
        match self {
            Self::Onnx(session) => session.placement().clone(),
            #[cfg(feature = "torch")]
            Self::Torch(instance, _) => instance.placement(),
        }
    }

    /// An instance with the tensors of the configuration, in its order and shapes.
    pub(super) fn into_instance(self, details: &SpecDetails) -> Box<dyn Instance> {
        let names = |tensors: &[TensorSpec]| tensors.iter().map(|tensor| tensor.name.clone()).collect();
        let inner = match self {
            Self::Onnx(session) => session.into_instance(names(details.spec.inputs()), names(details.spec.outputs())),
            #[cfg(feature = "torch")]
            Self::Torch(instance, _) => instance,
        };
        let (inputs, outputs) = (details.input_reshapes.clone(), details.output_reshapes.clone());
        if inputs.iter().chain(&outputs).all(Option::is_none) {
            return inner;
        }
        Box::new(Reshaped { inner, inputs, outputs, batches: details.spec.batches() })
    }
}

/// Opens a file with libtorch, with the inputs and outputs in the order of `tensors`.
///
/// # Errors
/// When libtorch cannot read it, or a requested GPU is not available; always in a build without libtorch.
#[cfg(feature = "torch")]
pub(super) fn torch(path: &Path, tensors: Tensors, providers: &[Provider], device: i32) -> anyhow::Result<ModelFile> {
    let on_nvidia = [Provider::TensorRt, Provider::Cuda, Provider::Plugin(Plugin::TensorRtRtx)];
    let wants_cuda = providers.iter().any(|provider| on_nvidia.contains(provider));
    let gpu = usize::try_from(device).unwrap_or(0);
    let instance = TorchInstance::load(path, &tensors.0, &tensors.1, wants_cuda, gpu)?;
    if !providers.contains(&Provider::Cpu)
        && let Some(reason) = instance.placement().reason
    {
        return Err(anyhow!(
            "cannot load {}: {reason} (--provider-policy strict: no other provider may run it)",
            path.display()
        ));
    }
    Ok(ModelFile::Torch(Box::new(instance), tensors))
}

/// In a build without libtorch.
#[cfg(not(feature = "torch"))]
pub(super) fn torch(
    path: &Path,
    _tensors: Tensors,
    _providers: &[Provider],
    _device: i32,
) -> anyhow::Result<ModelFile> {
    let path = path.display();
    Err(anyhow!("{path} needs libtorch, which this build does not have: build it with `--features torch`"))
}

/// The tensors that a configuration lists, because a TorchScript file does not contain them.
///
/// # Errors
/// When it lists none, or one without its type.
pub(super) fn listed_tensors(config: &ModelConfig) -> Result<Tensors, ConfigError> {
    let wrong = |what: String| ConfigError::Contradiction(format!("{what}, because a TorchScript file does not say"));
    if config.input.is_empty() || config.output.is_empty() {
        return Err(wrong("input and output must be listed, each with data_type and dims".to_owned()));
    }
    let batch = (config.max_batch_size > 0).then_some(None);
    let tensor = |name: &str, data_type: i32, dims: &[i64], reshape: Option<&ModelTensorReshape>| {
        let known = DataType::from_number(data_type).ok_or_else(|| wrong(format!("'{name}' must have a data_type")))?;
        let dims = reshape.map_or(dims, |reshape| &reshape.shape).iter().map(|&dim| usize::try_from(dim).ok());
        Ok(TensorSpec::new(name, known, batch.into_iter().chain(dims).collect::<Vec<_>>()))
    };
    let inputs = config.input.iter().map(|it| tensor(&it.name, it.data_type, &it.dims, it.reshape.as_ref()));
    let outputs = config.output.iter().map(|it| tensor(&it.name, it.data_type, &it.dims, it.reshape.as_ref()));
    Ok((inputs.collect::<Result<_, ConfigError>>()?, outputs.collect::<Result<_, ConfigError>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::parse_config;

    #[test]
    fn takes_a_torchscript_models_tensors_from_the_configuration() {
        let listed = |text: &str| listed_tensors(&parse_config(text, "m").unwrap());
        let tensors = "platform: \"pytorch_libtorch\" max_batch_size: 8
            input { name: \"INPUT__0\" data_type: TYPE_FP32 dims: [ 3, -1 ] }
            output { name: \"OUTPUT__0\" data_type: TYPE_INT64 dims: 1 reshape { shape: [ ] } }";
        let (inputs, outputs) = listed(tensors).unwrap();
        assert_eq!(inputs, [TensorSpec::new("INPUT__0", DataType::Fp32, [None, Some(3), None])]);
        assert_eq!(outputs, [TensorSpec::new("OUTPUT__0", DataType::Int64, [None])]);
        let refusals = [
            listed("backend: \"pytorch\" input { name: \"x\" data_type: TYPE_FP32 dims: 1 }"),
            listed("backend: \"pytorch\" input { name: \"x\" dims: 1 } output { name: \"y\" data_type: TYPE_FP32 }"),
        ];
        let refusals = refusals.map(|refusal| refusal.unwrap_err().to_string());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        input and output must be listed, each with data_type and dims, because a TorchScript file does not say
        'x' must have a data_type, because a TorchScript file does not say
        ");
    }
}
