//! A device's memory for the tensors of graphs, and copies to and from it.

use std::{path::Path, ptr, sync::OnceLock};

use ort::{
    AsPointer as _,
    environment::Environment,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    sys::OrtValue,
    value::DynValue,
};
use quintet_onnxruntime::Loaded;

use crate::backend::gpu_work;

/// A device's memory.
pub(in super::super) struct Device {
    pub(super) environment: Environment,
    pub(super) memory: MemoryInfo<'static>,
    pub(super) copy: CopyTensors,
}

/// Copies each tensor of the first list to its counterpart in the second, and waits until all are there.
///
/// # Safety
/// All tensors are alive, the tensors of a pair have one type and shape, and nothing else uses them during the call.
pub(super) type CopyTensors = unsafe fn(&Environment, &[*const OrtValue], &mut [*const OrtValue]) -> ort::Result<()>;

/// ONNX Runtime's copy, from or to a device whose provider is registered with the environment.
pub(super) unsafe fn copy_tensors(
    environment: &Environment,
    from: &[*const OrtValue],
    to: &mut [*const OrtValue],
) -> ort::Result<()> {
    // SAFETY: as the caller guarantees, and the lists are equally long. Without a stream the call waits for the copies.
    unsafe {
        let copy = ort::api().CopyTensors;
        let status = copy(
            environment.ptr().cast_mut(),
            from.as_ptr(),
            to.as_mut_ptr(),
            ptr::null_mut(),
            from.len().min(to.len()),
        );
        ort::Error::result_from_status(status)
    }
}

impl Device {
    /// A GPU's memory.
    ///
    /// # Errors
    /// The reason why ONNX Runtime cannot copy to the GPU.
    pub(in super::super) fn gpu(library: &Loaded, gpu: i32) -> Result<Self, String> {
        static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
        let provider = library.path.parent().unwrap_or(Path::new("")).join("libonnxruntime_providers_cuda.so");
        // A session's provider belongs to the session; the environment copies with the providers registered with
        // itself.
        let register = || {
            let _work = gpu_work::shared();
            let registered = library.environment.register_ep_library("quintet-cuda", &provider);
            registered.map_err(|error| error.message().to_owned())
        };
        REGISTERED.get_or_init(register).clone()?;
        let memory = MemoryInfo::new(AllocationDevice::CUDA, gpu, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| error.message().to_owned())?;
        Ok(Self { environment: library.environment.clone(), memory, copy: copy_tensors })
    }

    /// Copies the first tensor of each pair to the second, and waits until all copies are done.
    pub(super) fn copy<'a>(&self, pairs: impl Iterator<Item = (&'a DynValue, &'a DynValue)>) -> ort::Result<()> {
        let (from, mut to): (Vec<_>, Vec<_>) = pairs.map(|(from, to)| (from.ptr(), to.ptr())).unzip();
        // SAFETY: references to live tensors. The tensors of a pair have one type and shape, by which the graph was
        // chosen. The targets are the graph's own tensors, or new outputs that nothing else refers to.
        unsafe { (self.copy)(&self.environment, &from, &mut to) }
    }
}
