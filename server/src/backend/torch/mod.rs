//! The libtorch backend: a ResNet from a `.safetensors` file, or any TorchScript file, on CUDA or the CPU.

mod error;
mod resnet;
mod script;

use std::{path::Path, time::Instant};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, Instance, Placement, RunRequest, RunTimings, Shape, Tensor, TensorSpec};
use tch::{Cuda, Device, Kind, TchError, Tensor as Torch};

pub use self::error::TorchError;
use self::{error::first_line, resnet::ResNet, script::Script};
use super::{gpu_work, run_error};

/// The network that runs a batch. Outputs are in the order of the specification, `None` if they are not wanted.
enum Network {
    ResNet(ResNet),
    Script(Script),
}

/// A model in libtorch.
pub struct TorchInstance {
    network: Network,
    kinds: Vec<Kind>,
    outputs: Vec<TensorSpec>,
    device: Device,
    reason: Option<String>,
}

// SAFETY: a tensor or module of libtorch may be used by any thread, one at a time without a lock; one thread at a time
// owns an instance.
unsafe impl Send for TorchInstance {}

impl TorchInstance {
    /// Reads a model with these inputs and outputs, including the batch dimension: weights with torchvision's names
    /// from a `.safetensors` file, TorchScript from any other. With `wants_cuda` it uses the GPU with number `gpu`, if
    /// there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or the model cannot have these inputs and outputs.
    pub fn load(
        path: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        wants_cuda: bool,
        gpu: usize,
    ) -> Result<Self, TorchError> {
        let kinds = inputs.iter().map(known_kind).collect::<Result<_, _>>()?;
        outputs.iter().try_for_each(|output| known_kind(output).map(drop))?;
        let has_cuda = wants_cuda && open_cuda() && Cuda::is_available();
        let reason =
            (wants_cuda && !has_cuda).then(|| "cuda: libtorch finds no GPU, or is built without CUDA".to_owned());
        let device = if has_cuda { Device::Cuda(gpu) } else { Device::Cpu };
        let _work = on_gpu(device);
        let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
        let network = if is_weights {
            Network::ResNet(ResNet::load(path, inputs, outputs, device)?)
        } else {
            Network::Script(Script::load(path, inputs, outputs, device)?)
        };
        Ok(Self { network, kinds, outputs: outputs.to_vec(), device, reason })
    }
}

impl Instance for TorchInstance {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let internal = |error: TchError| run_error(format_args!("libtorch: {}", first_line(&error)));
        let _guard = tch::no_grad_guard();
        let _work = on_gpu(self.device);
        let started = Instant::now();
        let inputs: Vec<_> = request
            .inputs
            .iter()
            .zip(&self.kinds)
            .map(|(input, &kind)| match input {
                Some(input) => to_torch(input, kind, self.device).map_err(internal),
                // No configuration makes it optional: see `model_file::listed_tensors`.
                None => Err(InferError::internal("libtorch has no default for an input that was left out")),
            })
            .collect::<Result<_, _>>()?;
        let ready = Instant::now();
        timings.copy_in = ready - started;
        let outputs = match &self.network {
            Network::ResNet(network) => network.forward(&inputs, request.outputs),
            Network::Script(script) => script.forward(&inputs, request.outputs),
        };
        let outputs = outputs.map_err(internal)?;
        if let Device::Cuda(gpu) = self.device {
            // Kernels are only queued so far.
            Cuda::synchronize(gpu as i64);
        }
        let ran = Instant::now();
        timings.infer = ran - ready;
        let outputs = outputs.iter().zip(&self.outputs);
        let outputs = outputs.map(|(output, spec)| output.as_ref().map(|output| from_torch(output, spec)).transpose());
        let outputs = outputs.collect();
        timings.copy_out = ran.elapsed();
        outputs
    }

    fn placement(&self) -> Placement {
        let provider = if self.device == Device::Cpu { "libtorch CPU" } else { "libtorch CUDA" };
        let gpu = match self.device {
            Device::Cuda(gpu) => i32::try_from(gpu).ok().and_then(crate::observe::gpu::name),
            _ => None,
        };
        Placement { provider: provider.to_owned(), reason: self.reason.clone(), gpu, ..Placement::default() }
    }
}

/// Opens libtorch's CUDA library, which this program does not link, so that one program works with both kinds of
/// libtorch. Returns whether it exists.
fn open_cuda() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library's initialisers are PyTorch's own, and may run at any time in any program.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // Never closed: libtorch keeps pointers to its functions.
    library.map(std::mem::forget).is_ok()
}

/// The lock for GPU work, taken while libtorch works on a GPU.
fn on_gpu(device: Device) -> Option<impl Sized> {
    (device != Device::Cpu).then(gpu_work::shared)
}

fn known_kind(tensor: &TensorSpec) -> Result<Kind, TorchError> {
    let unknown = || TorchError::Type { name: tensor.name.clone(), data_type: tensor.data_type };
    kind(tensor.data_type).ok_or_else(unknown)
}

/// libtorch's name of a type; `None` if it does not have the type.
fn kind(data_type: DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Bool => Kind::Bool,
        DataType::Uint8 => Kind::Uint8,
        DataType::Int8 => Kind::Int8,
        DataType::Int16 => Kind::Int16,
        DataType::Int32 => Kind::Int,
        DataType::Int64 => Kind::Int64,
        DataType::Fp16 => Kind::Half,
        DataType::Bf16 => Kind::BFloat16,
        DataType::Fp32 => Kind::Float,
        DataType::Fp64 => Kind::Double,
        DataType::Uint16 | DataType::Uint32 | DataType::Uint64 | DataType::Bytes => return None,
    })
}

/// A tensor of libtorch on its device, with the same elements.
fn to_torch(tensor: &Tensor, kind: Kind, device: Device) -> Result<Torch, TchError> {
    let dims: Vec<i64> = tensor.shape().dims().iter().map(|&dim| dim as i64).collect();
    Torch::f_from_data_size(tensor.data(), &dims, kind)?.f_to_device(device)
}

/// An output copied to the CPU.
///
/// # Errors
/// When its type or shape is not that of the specification.
fn from_torch(output: &Torch, spec: &TensorSpec) -> Result<Tensor, InferError> {
    let internal = |error: TchError| run_error(format_args!("libtorch: {}", first_line(&error)));
    let found = output.f_kind().map_err(internal)?;
    if Some(found) != kind(spec.data_type) {
        let (name, wanted) = (&spec.name, spec.data_type);
        let what = format!("output '{name}' is configured as {wanted} but the model gives {found:?}");
        return Err(InferError::Misconfigured(what.into()));
    }
    let dims: Vec<usize> = output.size().iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    let fits = dims.len() == spec.dims.len()
        && spec.dims.iter().zip(&dims).all(|(spec, dim)| spec.is_none_or(|spec| spec == *dim));
    let shape = Shape::new(dims);
    if !fits {
        let (name, wanted) = (&spec.name, spec.announced_shape(false));
        let what = format!("output '{name}' has shape {wanted:?} in the configuration but {shape} from the model");
        return Err(InferError::Misconfigured(what.into()));
    }
    let count = shape.elements().unwrap_or(0);
    let mut data = vec![0; count * found.elt_size_in_bytes()];
    let output = output.f_to_device(Device::Cpu).and_then(|output| output.f_contiguous()).map_err(internal)?;
    output.f_copy_data_u8(&mut data, count).map_err(internal)?;
    Tensor::new(spec.data_type, shape, Bytes::from(data)).map_err(InferError::internal)
}
