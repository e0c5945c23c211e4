//! A ResNet of any depth from torchvision's weights, whose names determine the depth.

use std::{collections::HashMap, path::Path};

use quintet_engine::{DataType, OutputSet, TensorSpec};
use tch::{Device, TchError, Tensor as Torch};

use super::error::{TorchError, first_line};

/// Added to the variance by PyTorch's `BatchNorm2d`.
const EPSILON: f64 = 1e-5;

/// An output of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Embedding,
    Logits,
}

/// A convolution with the following batch norm folded in: the same numbers with half the passes over memory.
struct Conv {
    weight: Torch,
    bias: Torch,
    padding: i64,
}

/// The weights and the outputs.
pub(super) struct ResNet {
    /// By the convolution's name, e.g. `layer1.0.conv1`.
    convs: HashMap<String, Conv>,
    /// Weight and bias of the classifier, if the file has one.
    classifier: Option<(Torch, Torch)>,
    /// Whether images and weights are in oneDNN's layout, so that oneDNN does not reorder them at each convolution.
    is_onednn: bool,
    outputs: Vec<Output>,
}

impl Conv {
    /// `w γ/√(σ²+ε)` and `β - μ γ/√(σ²+ε)` for a convolution `w`.
    fn fold(name: &str, weight: &Torch, weights: &HashMap<String, Torch>, device: Device) -> Result<Self, TchError> {
        // `layer1.0.bn1` follows `layer1.0.conv1`, and `layer1.0.downsample.1` follows `layer1.0.downsample.0`.
        let norm = match name.strip_suffix(".0") {
            Some(shortcut) => format!("{shortcut}.1"),
            None => name.replace("conv", "bn"),
        };
        let part = |part: &str| {
            let name = format!("{norm}.{part}");
            weights.get(&name).ok_or_else(|| missing(&name))
        };
        let scale = part("running_var")?.f_add_scalar(EPSILON)?.f_rsqrt()?.f_mul(part("weight")?)?;
        let bias = part("bias")?.f_sub(&part("running_mean")?.f_mul(&scale)?)?;
        let weight = weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let padding = weight.size().last().map_or(0, |size| size / 2);
        Ok(Self { weight: weight.f_to_device(device)?, bias: bias.f_to_device(device)?, padding })
    }

    /// The same with its weight in oneDNN's layout.
    fn reordered(self) -> Result<Self, TchError> {
        let (padding, one) = ([self.padding, self.padding], [1, 1]);
        let weight =
            self.weight.f_to_mkldnn(None)?.f_mkldnn_reorder_conv2d_weight(padding, one, one, 1, None::<&[i64]>)?;
        Ok(Self { weight, ..self })
    }
}

fn missing(name: &str) -> TchError {
    TchError::FileFormat(format!("the weights have no tensor '{name}'"))
}

impl ResNet {
    /// # Errors
    /// When the file cannot be read, or the model is not a ResNet.
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
        let read = |error: TchError| TorchError::Read { path: path.display().to_string(), reason: first_line(&error) };
        let weights: HashMap<_, _> = Torch::read_safetensors(path).map_err(read)?.into_iter().collect();
        let _guard = tch::no_grad_guard();
        let is_onednn = device == Device::Cpu && tch::utils::has_mkldnn();
        let convs = weights.iter().filter(|(_, weight)| weight.dim() == 4);
        let convs = convs.filter_map(|(name, weight)| Some((name.strip_suffix(".weight")?, weight)));
        let convs = convs.map(|(name, weight)| {
            let conv = Conv::fold(name, weight, &weights, device)?;
            Ok((name.to_owned(), if is_onednn { conv.reordered()? } else { conv }))
        });
        let convs = convs.collect::<Result<_, _>>().map_err(read)?;
        let classifier = weights.get("fc.weight").zip(weights.get("fc.bias"));
        let classifier = classifier.map(|(weight, bias)| Ok((weight.f_to_device(device)?, bias.f_to_device(device)?)));
        Ok(Self { convs, classifier: classifier.transpose().map_err(read)?, is_onednn, outputs })
    }

    /// A convolution and its batch norm.
    fn conv(&self, x: &Torch, name: &str, stride: i64) -> Result<Torch, TchError> {
        let Conv { weight, bias, padding } = self.convs.get(name).ok_or_else(|| missing(&format!("{name}.weight")))?;
        x.f_conv2d(weight, Some(bias), [stride, stride], [*padding, *padding], [1, 1], 1)
    }

    fn block(&self, x: &Torch, name: &str, stride: i64) -> Result<Torch, TchError> {
        let conv = |x: &Torch, n: u8, stride| self.conv(x, &format!("{name}.conv{n}"), stride);
        let mut y = if self.convs.contains_key(&format!("{name}.conv3")) {
            let y = conv(x, 1, 1)?.f_relu_()?;
            conv(&conv(&y, 2, stride)?.f_relu_()?, 3, 1)?
        } else {
            conv(&conv(x, 1, stride)?.f_relu_()?, 2, 1)?
        };
        let shortcut = format!("{name}.downsample.0");
        if self.convs.contains_key(&shortcut) {
            y.f_add_(&self.conv(x, &shortcut, stride)?)?.f_relu_()
        } else {
            y.f_add_(x)?.f_relu_()
        }
    }

    /// Images `[N,3,224,224]` to their embeddings `[N,512 or 2048]`.
    fn embed(&self, images: &Torch) -> Result<Torch, TchError> {
        let images = if self.is_onednn { images.f_to_mkldnn(None)? } else { images.shallow_clone() };
        let mut x = self.conv(&images, "conv1", 2)?.f_relu_()?;
        x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for layer in 1..=4 {
            let name = |block: usize| format!("layer{layer}.{block}");
            let blocks = (0..).take_while(|&block| self.convs.contains_key(&format!("{}.conv1", name(block))));
            for block in blocks {
                x = self.block(&x, &name(block), if layer > 1 && block == 0 { 2 } else { 1 })?;
            }
        }
        let x = x.f_adaptive_avg_pool2d([1, 1])?;
        let x = if self.is_onednn { x.f_to_dense(None, false)? } else { x };
        x.f_flatten(1, -1)
    }

    /// The wanted outputs for these images.
    pub(super) fn forward(&self, inputs: &[Torch], wanted: OutputSet) -> Result<Vec<Option<Torch>>, TchError> {
        let [images] = inputs else { return Err(TchError::Shape("one input is needed".to_owned())) };
        let embedding = self.embed(images)?;
        let outputs = self.outputs.iter().enumerate().map(|(index, output)| match output {
            _ if !wanted.contains(index) => Ok(None),
            Output::Embedding => Ok(Some(embedding.shallow_clone())),
            Output::Logits => {
                let (weight, bias) = self.classifier.as_ref().ok_or_else(|| missing("fc.weight"))?;
                Ok(Some(embedding.f_linear(weight, Some(bias))?))
            }
        });
        outputs.collect()
    }
}
