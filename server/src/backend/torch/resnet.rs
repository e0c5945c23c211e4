//! A ResNet of any depth from torchvision's weights; their names say how deep.

use std::{collections::HashMap, path::Path};

use quintet_engine::{DataType, OutputSet, TensorSpec};
use tch::{Device, TchError, Tensor as Torch};

use super::{TorchError, first_line};

/// Added to the variance by PyTorch's `BatchNorm2d`.
const EPSILON: f64 = 1e-5;

/// An output of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Embedding,
    Logits,
}

/// The weights, and what is asked for.
pub(super) struct ResNet {
    weights: HashMap<String, Torch>,
    outputs: Vec<Output>,
}

impl ResNet {
    /// # Errors
    /// When the file cannot be read, or the model is no ResNet.
    pub(super) fn load(
        path: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        device: Device,
    ) -> Result<Self, TorchError> {
        match inputs {
            [input] if input.data_type == DataType::Fp32 => {}
            _ => {
                let input = inputs.iter().find(|input| input.data_type != DataType::Fp32).or(inputs.last());
                return Err(TorchError::Tensor(input.map(|input| input.name.clone()).unwrap_or_default()));
            }
        }
        let outputs = outputs.iter().map(|output| match output.name.as_str() {
            "embedding" => Ok(Output::Embedding),
            "logits" => Ok(Output::Logits),
            other => Err(TorchError::Tensor(other.to_owned())),
        });
        let outputs = outputs.collect::<Result<_, _>>()?;
        let weights = Torch::read_safetensors(path)
            .and_then(|tensors| {
                tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?))).collect()
            })
            .map_err(|error| TorchError::Read { path: path.display().to_string(), reason: first_line(&error) })?;
        Ok(Self { weights, outputs })
    }

    fn weight(&self, name: &str) -> Result<&Torch, TchError> {
        self.weights.get(name).ok_or_else(|| TchError::FileFormat(format!("the weights have no tensor '{name}'")))
    }

    /// A convolution and the batch norm behind it, e.g. `layer1.0.conv1` and `layer1.0.bn1`.
    fn conv(&self, x: &Torch, conv: &str, norm: &str, stride: i64) -> Result<Torch, TchError> {
        let kernel = self.weight(&format!("{conv}.weight"))?;
        let padding = kernel.size().last().map_or(0, |size| size / 2);
        let x = x.f_conv2d(kernel, None::<&Torch>, [stride, stride], [padding, padding], [1, 1], 1)?;
        let part = |part: &str| self.weight(&format!("{norm}.{part}")).map(Some);
        let (weight, bias, mean, var) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
        x.f_batch_norm(weight, bias, mean, var, false, 0.0, EPSILON, true)
    }

    fn block(&self, x: &Torch, name: &str, stride: i64) -> Result<Torch, TchError> {
        let conv =
            |x: &Torch, n: u8, stride| self.conv(x, &format!("{name}.conv{n}"), &format!("{name}.bn{n}"), stride);
        let y = if self.weights.contains_key(&format!("{name}.conv3.weight")) {
            let y = conv(x, 1, 1)?.f_relu()?;
            conv(&conv(&y, 2, stride)?.f_relu()?, 3, 1)?
        } else {
            conv(&conv(x, 1, stride)?.f_relu()?, 2, 1)?
        };
        let shortcut = format!("{name}.downsample");
        if self.weights.contains_key(&format!("{shortcut}.0.weight")) {
            let x = self.conv(x, &format!("{shortcut}.0"), &format!("{shortcut}.1"), stride)?;
            y.f_add(&x)?.f_relu()
        } else {
            y.f_add(x)?.f_relu()
        }
    }

    /// Images `[N,3,224,224]` to their embeddings `[N,512 or 2048]`.
    fn embed(&self, images: &Torch) -> Result<Torch, TchError> {
        let mut x = self.conv(images, "conv1", "bn1", 2)?.f_relu()?;
        x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for layer in 1..=4 {
            let name = |block: usize| format!("layer{layer}.{block}");
            let blocks = (0..).take_while(|&block| self.weights.contains_key(&format!("{}.conv1.weight", name(block))));
            for block in blocks {
                x = self.block(&x, &name(block), if layer > 1 && block == 0 { 2 } else { 1 })?;
            }
        }
        x.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)
    }

    /// Images to what is wanted of them.
    pub(super) fn forward(&self, inputs: &[Torch], wanted: OutputSet) -> Result<Vec<Option<Torch>>, TchError> {
        let [images] = inputs else { return Err(TchError::Shape("one input is needed".to_owned())) };
        let embedding = self.embed(images)?;
        let outputs = self.outputs.iter().enumerate().map(|(index, output)| match output {
            _ if !wanted.contains(index) => Ok(None),
            Output::Embedding => Ok(Some(embedding.shallow_clone())),
            Output::Logits => {
                let weight = self.weight("fc.weight")?.f_transpose(0, 1)?;
                Ok(Some(embedding.f_matmul(&weight)?.f_add(self.weight("fc.bias")?)?))
            }
        });
        outputs.collect()
    }
}
