//! Page-locked memory for the inputs of requests: a GPU reads it directly, without an intermediate copy.

use std::{
    ptr::NonNull,
    slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ort::{
    environment::Environment,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
};
use parking_lot::Mutex;
use quintet_engine::buffer::{ALIGNMENT, Block, Source};

use super::{provider::Provider, tuning::Tuning};
use crate::backend::gpu_work;

/// The ONNX model `y = Identity(x)`, FP32 with any length: a session needs a model.
#[rustfmt::skip]
pub(super) const IDENTITY: &[u8] = b"\x08\x08\x3a\x39\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x10\x0a\x01x\x12\x0b\x0a\x09\x08\x01\x12\x05\x0a\x03\x12\x01n\
    \x62\x10\x0a\x01y\x12\x0b\x0a\x09\x08\x01\x12\x05\x0a\x03\x12\x01n\
    \x42\x02\x10\x11";

/// The process's page-locked memory for a GPU, up to `max_bytes`; the first call determines both.
///
/// # Errors
/// The reason why there is none.
pub fn pinned(environment: &Environment, gpu: i32, max_bytes: usize) -> Result<Arc<dyn Source>, String> {
    static PINNED: OnceLock<Result<Arc<Lender>, String>> = OnceLock::new();
    let open = || Lender::on_gpu(environment, gpu, max_bytes).map(Arc::new).map_err(|error| error.message().to_owned());
    PINNED.get_or_init(open).clone().map(|lender| lender as Arc<dyn Source>)
}

/// Lends the memory of one of ONNX Runtime's allocators.
struct Lender {
    memory: Arc<PinnedMemory>,
}

struct PinnedMemory {
    /// Locked, because not every allocator is thread-safe.
    allocator: Mutex<Allocator>,
    left_bytes: AtomicUsize,
    /// The session that owns the allocator.
    _session: Session,
}

impl Lender {
    /// Uses a session of its own, because models are loaded and unloaded.
    fn on_gpu(environment: &Environment, gpu: i32, max_bytes: usize) -> ort::Result<Self> {
        let tuning = Tuning { device: gpu, ..Tuning::default() };
        let _work = gpu_work::shared();
        let session = Session::builder(environment)?
            .with_execution_providers(Provider::Cuda.registrations(&tuning))?
            .commit_from_memory(IDENTITY)?;
        let device = AllocationDevice::CUDA_PINNED;
        Self::new(session, MemoryInfo::new(device, gpu, AllocatorType::Device, MemoryType::CPUInput)?, max_bytes)
    }

    fn new(session: Session, memory: MemoryInfo<'_>, max_bytes: usize) -> ort::Result<Self> {
        let allocator = Mutex::new(Allocator::new(&session, memory)?);
        Ok(Self { memory: Arc::new(PinnedMemory { allocator, left_bytes: max_bytes.into(), _session: session }) })
    }
}

impl Source for Lender {
    fn allocate(&self, len: usize) -> Option<Box<dyn Block>> {
        let _work = gpu_work::try_shared()?;
        self.memory.left_bytes.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(len)).ok()?;
        let allocated = self.memory.allocator.lock().alloc::<u8>(len).map(|block| block.into_raw());
        let Some(start) = allocated.ok().and_then(NonNull::new) else {
            self.memory.left_bytes.fetch_add(len, Relaxed);
            return None;
        };
        // SAFETY: the allocator has just returned `len` bytes here, in memory that the CPU can access.
        unsafe { start.cast::<u8>().write_bytes(0, len) };
        let block = PinnedBlock { start: start.cast(), len, memory: Arc::clone(&self.memory) };
        block.start.cast::<[u8; ALIGNMENT]>().as_ptr().addr().is_multiple_of(ALIGNMENT).then(|| Box::new(block) as _)
    }
}

struct PinnedBlock {
    start: NonNull<u8>,
    len: usize,
    memory: Arc<PinnedMemory>,
}

// SAFETY: the block is the only owner of the memory, and its allocator has a lock.
unsafe impl Send for PinnedBlock {}
// SAFETY: as above; through a shared reference it is only read.
unsafe impl Sync for PinnedBlock {}

impl AsRef<[u8]> for PinnedBlock {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes, initialised when they were allocated, and owned by this block until it is dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for PinnedBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Block for PinnedBlock {}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        // SAFETY: the allocator returned this memory, and nothing else frees it.
        unsafe { self.memory.allocator.lock().free(self.start.as_ptr()) };
        self.memory.left_bytes.fetch_add(self.len, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quintet_engine::BufferPool;
    use quintet_onnxruntime::ThreadPool;

    use super::*;

    fn environment() -> &'static Environment {
        &quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap().environment
    }

    /// As on a GPU, with the allocator that a session on the CPU has.
    fn on_cpu(max_bytes: usize) -> Lender {
        let session = Session::builder(environment()).unwrap().commit_from_memory(IDENTITY).unwrap();
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        Lender::new(session, memory, max_bytes).unwrap()
    }

    #[test]
    fn gives_a_reason_without_cuda() {
        let reason = pinned(environment(), 0, 1 << 20).err().unwrap();
        assert!(reason.contains("CUDA"), "{reason}");
        let session = Session::builder(environment()).unwrap().commit_from_memory(IDENTITY).unwrap();
        let device = AllocationDevice::CUDA_PINNED;
        let memory = MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::CPUInput).unwrap();
        assert!(Lender::new(session, memory, 1 << 20).is_err(), "a session on the CPU has no page-locked memory");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn blocks_are_aligned_disjoint_and_within_the_limit(sizes in prop::collection::vec(1usize..200_000, 1..20)) {
            const LIMIT: usize = 1_000_000;
            let _alone = gpu_work::RECORDING.lock();
            let lender = on_cpu(LIMIT);
            let memory = Arc::clone(&lender.memory);
            let pool = BufferPool::new(LIMIT / 2);
            pool.set_source(Arc::new(lender));
            let mut buffers: Vec<_> = sizes.iter().map(|&size| pool.take(size)).collect();
            for (mark, buffer) in buffers.iter_mut().enumerate() {
                prop_assert!(buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
                buffer.fill(mark as u8);
            }
            for (mark, (buffer, &size)) in buffers.iter().zip(&sizes).enumerate() {
                prop_assert!(buffer.len() == size && buffer.iter().all(|&byte| byte == mark as u8));
            }
            let held: usize = sizes.iter().sum();
            prop_assert!(held < 100_000 || memory.left_bytes.load(Relaxed) < LIMIT, "some of it is in use");
            drop(buffers);
            drop(pool);
            prop_assert_eq!(memory.left_bytes.load(Relaxed), LIMIT);
        }
    }
}
