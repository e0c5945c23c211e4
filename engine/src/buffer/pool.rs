//! Buffers that are used again by later requests.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    idle::Idle,
    memory::{ALIGNMENT, MIN_KEPT_BYTES, Memory, Source},
};
use crate::budget::{Budget, Charge, Exhausted};

/// A pool of 64-byte aligned buffers. Clones share the pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    idle: Mutex<Idle>,
    source: OnceLock<Arc<dyn Source>>,
    budget: Budget,
}

impl BufferPool {
    /// A pool that keeps at most `max_idle_bytes` of unused buffers.
    pub fn new(max_idle_bytes: usize) -> Self {
        Self::within(max_idle_bytes, Budget::unlimited())
    }

    /// A pool whose buffers are charged to `budget` while they are in use.
    pub fn within(max_idle_bytes: usize, budget: Budget) -> Self {
        let idle = Mutex::new(Idle::new(max_idle_bytes));
        Self { shared: Arc::new(Shared { idle, source: OnceLock::new(), budget }) }
    }

    /// The budget of the buffers in use.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Takes new buffers of 4 KiB and more from `source` until it is exhausted. Only the first call has an effect.
    pub fn set_source(&self, source: Arc<dyn Source>) {
        let _ = self.shared.source.set(source);
    }

    /// A buffer of `len` bytes, aligned to [`ALIGNMENT`], even if the budget is used up: for work that has to be done.
    /// Its content is unspecified: it may be an earlier user's.
    pub fn take(&self, len: usize) -> Buffer {
        let mut charge = self.shared.budget.charge();
        charge.force(len);
        self.buffer(len, charge)
    }

    /// As [`take`](Self::take), for what follows a request that was received.
    ///
    /// # Errors
    /// [`Exhausted::Full`] if the budget has too little.
    pub fn try_take(&self, len: usize) -> Result<Buffer, Exhausted> {
        let mut charge = self.shared.budget.charge();
        charge.try_force(len)?;
        Ok(self.buffer(len, charge))
    }

    fn buffer(&self, len: usize, charge: Charge) -> Buffer {
        let bytes = class_of(len);
        let memory = self.kept_or_borrowed(bytes).unwrap_or_else(|| Memory::zeroed(bytes));
        Buffer { memory, len, charge, pool: Arc::clone(&self.shared) }
    }

    /// A buffer to receive `len` bytes into, and whether it was used before and is charged whole: it has all its pages.
    /// A new one is charged as it is filled.
    pub(super) fn begin(&self, len: usize) -> (Buffer, bool) {
        let bytes = class_of(len);
        let mut charge = self.shared.budget.charge();
        if let Some(memory) = self.kept_or_borrowed(bytes) {
            if charge.try_grow(len).is_ok() {
                return (Buffer { memory, len, charge, pool: Arc::clone(&self.shared) }, true);
            }
            self.shared.put(memory);
        }
        let memory = Memory::zeroed(bytes);
        (Buffer { memory, len, charge, pool: Arc::clone(&self.shared) }, false)
    }

    fn kept_or_borrowed(&self, bytes: usize) -> Option<Memory> {
        if bytes < MIN_KEPT_BYTES {
            return None;
        }
        let kept = |is_borrowed| self.shared.idle.lock().take(bytes, is_borrowed);
        let Some(source) = self.shared.source.get() else { return kept(false) };
        kept(true).or_else(|| source.allocate(bytes).map(Memory::Borrowed)).or_else(|| kept(false))
    }

    /// Frees the buffers that nobody has used for a while. Buffers that return do so, too.
    pub fn trim(&self, now: Instant) {
        let freed = self.shared.idle.lock().trim(now);
        drop(freed);
    }

    /// The maximum of [`idle_bytes`](Self::idle_bytes).
    pub fn max_idle_bytes(&self) -> usize {
        self.shared.idle.lock().max_bytes()
    }

    /// Bytes in unused buffers.
    pub fn idle_bytes(&self) -> usize {
        self.shared.idle.lock().bytes()
    }
}

impl Shared {
    fn put(&self, memory: Memory) {
        let freed = self.idle.lock().put(memory, Instant::now());
        drop(freed);
    }
}

/// Bytes of the size class for `len` bytes: four classes between powers of two, so at most a quarter is wasted.
fn class_of(len: usize) -> usize {
    let lines = len.div_ceil(ALIGNMENT).max(1);
    let step = (lines.next_power_of_two() / 8).max(1);
    lines.next_multiple_of(step) * ALIGNMENT
}

/// A writable buffer from a [`BufferPool`]; [`freeze`](Self::freeze) makes it shareable.
pub struct Buffer {
    memory: Memory,
    len: usize,
    /// Released after the memory was put back.
    pub(super) charge: Charge,
    pool: Arc<Shared>,
}

impl Buffer {
    /// The buffer as immutable, shareable bytes; it returns to its pool with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Shortens the buffer to its first `len` bytes; does nothing if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.bytes()[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let nothing = Memory::Own { bytes: vec![0; 0], start: 0 };
        self.pool.put(std::mem::replace(&mut self.memory, nothing));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::memory::Block, *};
    use proptest::prelude::*;

    #[test]
    fn a_buffer_returns_to_the_pool_with_its_last_reader() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(602_112);
        buffer[602_111] = 7;
        let address = buffer.as_ptr();
        let bytes = buffer.freeze();
        let slice = bytes.slice(602_000..);
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 0);
        assert_eq!(slice[111], 7);
        drop(slice);
        assert!(pool.idle_bytes() >= 602_112);
        assert_eq!(pool.take(602_112).as_ptr(), address);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let pool = BufferPool::new(100_000);
        let buffers: Vec<_> = (0..10).map(|_| pool.take(40_000)).collect();
        drop(buffers);
        assert!((40_000..=100_000).contains(&pool.idle_bytes()));
    }

    /// Gives this many blocks, filled with sevens.
    struct Limited(Mutex<usize>);

    #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C, align(64))]
    struct Line([u8; ALIGNMENT]);

    struct Sevens(Vec<Line>);

    impl AsRef<[u8]> for Sevens {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    impl AsMut<[u8]> for Sevens {
        fn as_mut(&mut self) -> &mut [u8] {
            bytemuck::cast_slice_mut(&mut self.0)
        }
    }

    impl Block for Sevens {}

    impl Source for Limited {
        fn allocate(&self, len: usize) -> Option<Box<dyn Block>> {
            let mut left = self.0.lock();
            *left = left.checked_sub(1)?;
            Some(Box::new(Sevens(vec![Line([7; ALIGNMENT]); len / ALIGNMENT])))
        }
    }

    #[test]
    fn memory_of_the_source_is_used_first_and_again() {
        let pool = BufferPool::new(1 << 20);
        drop(pool.take(40_000));
        pool.set_source(Arc::new(Limited(Mutex::new(1))));
        let borrowed = pool.take(40_000);
        assert!(borrowed.iter().all(|&byte| byte == 7), "before the pool's own");
        assert!(pool.take(40_000).iter().all(|&byte| byte == 0), "the source is exhausted");
        drop(borrowed);
        assert!(pool.take(40_000).iter().all(|&byte| byte == 7));
        assert_eq!(pool.take(100)[0], 0, "small buffers are the allocator's");
    }

    proptest! {
        #[test]
        fn buffers_are_aligned_and_waste_little(len in 0usize..5_000_000) {
            let buffer = BufferPool::new(0).take(len);
            prop_assert_eq!(buffer.len(), len);
            prop_assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            prop_assert!(class_of(len) <= len + len / 4 + 2 * ALIGNMENT);
        }
    }
}
