//! libtorch as a backend: a ResNet from a `.safetensors` file with torchvision's names, on CUDA or the CPU.

use std::{collections::HashMap, path::Path, time::Instant};

use bytes::Bytes;
use quintet_engine::{
    Cancel, DataType, InferError, Instance, OutputSet, Placement, RunTimings, Shape, Tensor, TensorSpec,
};
use tch::{Cuda, Device, Kind, TchError, Tensor as Torch};

/// Added to the variance by PyTorch's `BatchNorm2d`.
const EPSILON: f64 = 1e-5;

/// Weights that libtorch cannot run.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The file cannot be read.
    #[error("cannot read weights {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The first line of what libtorch said.
        reason: String,
    },
    /// The model in service has other inputs or outputs than a ResNet.
    #[error("libtorch serves a ResNet with one FP32 input and the outputs 'embedding' and 'logits', not '{0}'")]
    Tensor(String),
}

/// An output of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Embedding,
    Logits,
}

/// A ResNet of any depth; the weights' names tell which.
pub struct ResNet {
    weights: HashMap<String, Torch>,
    device: Device,
    outputs: Vec<Output>,
    reason: Option<String>,
}

// SAFETY: a tensor of libtorch may be used by any thread, by one at a time without a lock; an instance is
// owned by one thread.
unsafe impl Send for ResNet {}

impl ResNet {
    /// Reads the weights for a model with these inputs and outputs. `wants_cuda` takes a GPU where there is
    /// one, the GPU of this number.
    ///
    /// # Errors
    /// When the file cannot be read, or the model is no ResNet.
    pub fn load(
        path: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        wants_cuda: bool,
        gpu: usize,
    ) -> Result<Self, TorchError> {
        if let Some(input) = inputs.iter().find(|input| input.data_type != DataType::Fp32) {
            return Err(TorchError::Tensor(input.name.clone()));
        }
        let outputs = outputs.iter().map(|output| match output.name.as_str() {
            "embedding" => Ok(Output::Embedding),
            "logits" => Ok(Output::Logits),
            other => Err(TorchError::Tensor(other.to_owned())),
        });
        let outputs = outputs.collect::<Result<_, _>>()?;
        let has_cuda = wants_cuda && open_cuda() && Cuda::is_available();
        let reason =
            (wants_cuda && !has_cuda).then(|| "cuda: libtorch finds no GPU, or is built without CUDA".to_owned());
        let device = if wants_cuda && has_cuda { Device::Cuda(gpu) } else { Device::Cpu };
        let weights = Torch::read_safetensors(path)
            .and_then(|tensors| {
                tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_device(device)?))).collect()
            })
            .map_err(|error| TorchError::Read { path: path.display().to_string(), reason: first_line(&error) })?;
        Ok(Self { weights, device, outputs, reason })
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

    fn forward(&self, images: &Torch, wanted: OutputSet) -> Result<Vec<Option<Torch>>, TchError> {
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

impl Instance for ResNet {
    fn run(
        &mut self,
        inputs: &[Tensor],
        wanted: OutputSet,
        _cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let internal = |error: TchError| InferError::internal(format_args!("libtorch: {}", first_line(&error)));
        let [images] = inputs else { return Err(InferError::internal("one input is needed")) };
        let _guard = tch::no_grad_guard();
        let started = Instant::now();
        let dims: Vec<i64> = images.shape().dims().iter().map(|&dim| dim as i64).collect();
        let images = Torch::f_from_data_size(images.data(), &dims, Kind::Float)
            .and_then(|images| images.f_to_device(self.device))
            .map_err(internal)?;
        let ready = Instant::now();
        timings.copy_in = ready - started;
        let outputs = self.forward(&images, wanted).map_err(internal)?;
        if let Device::Cuda(gpu) = self.device {
            // Kernels are only queued until now.
            Cuda::synchronize(gpu as i64);
        }
        let ran = Instant::now();
        timings.infer = ran - ready;
        let outputs = outputs.into_iter().map(|output| output.map(|output| take(&output)).transpose());
        let outputs = outputs.collect::<Result<Vec<_>, _>>().map_err(internal)?;
        timings.copy_out = ran.elapsed();
        outputs
            .into_iter()
            .map(|output| output.map(|(shape, data)| Tensor::new(DataType::Fp32, shape, data)).transpose())
            .collect::<Result<_, _>>()
            .map_err(InferError::internal)
    }

    fn placement(&self) -> Placement {
        let provider = if self.device == Device::Cpu { "libtorch CPU" } else { "libtorch CUDA" };
        Placement { provider: provider.to_owned(), nodes: Vec::new(), precision: None, reason: self.reason.clone() }
    }
}

/// Opens libtorch's CUDA half, which nothing in this program refers to, so that one program serves both
/// kinds of libtorch. Whether it is there.
fn open_cuda() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library's initialisers are PyTorch's own, made to be run at any time by any program.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // Closing it would leave libtorch with functions that are gone.
    library.map(std::mem::forget).is_ok()
}

/// A tensor's shape and its numbers, brought to the CPU.
fn take(tensor: &Torch) -> Result<(Shape, Bytes), TchError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let dims: Vec<usize> = tensor.size().iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    let count: usize = dims.iter().product();
    let mut data = vec![0; count * size_of::<f32>()];
    tensor.f_copy_data_u8(&mut data, count)?;
    Ok((Shape::new(dims), data.into()))
}

/// libtorch's messages hold backtraces, some of them whole tensors.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(300).collect()
}
