//! Where the tensors of graphs are, and what copies to and from there.

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
/// Its caller has checked that all of them live, that those of the second fit those of the first, and that nobody else
/// has them meanwhile.
pub(super) type CopyTensors = unsafe fn(&Environment, &[*const OrtValue], &mut [*const OrtValue]) -> ort::Result<()>;

/// ONNX Runtime's, which copies from or to a device whose provider the environment knows.
pub(super) unsafe fn copy_tensors(
    environment: &Environment,
    from: &[*const OrtValue],
    to: &mut [*const OrtValue],
) -> ort::Result<()> {
    // SAFETY: as the caller has checked, and the lists are equally long. Without a stream it waits.
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
    /// Why ONNX Runtime cannot copy there.
    pub(in super::super) fn gpu(library: &Loaded, gpu: i32) -> Result<Self, String> {
        static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
        let provider = library.path.parent().unwrap_or(Path::new("")).join("libonnxruntime_providers_cuda.so");
        // A session's provider is the session's alone: the environment copies by those that it knows itself.
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

    /// Copies the first of each pair to the second, and waits until all are there.
    pub(super) fn copy<'a>(&self, pairs: impl Iterator<Item = (&'a DynValue, &'a DynValue)>) -> ort::Result<()> {
        let (from, mut to): (Vec<_>, Vec<_>) = pairs.map(|(from, to)| (from.ptr(), to.ptr())).unzip();
        // SAFETY: references to live tensors. Those of a pair have one type and shape, which a graph is chosen by. What
        // is written to is the graph's own, or an answer in the making.
        unsafe { (self.copy)(&self.environment, &from, &mut to) }
    }
}
