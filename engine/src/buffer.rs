//! A pool of aligned buffers: a fresh buffer of a tensor's size costs a page fault for each 4 KiB.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use parking_lot::Mutex;

/// Alignment of every buffer in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// Size of the smallest buffer that is kept, in lines (4 KiB); the allocator is fast for smaller ones.
const MIN_KEPT_LINES: usize = 64;

/// Memory from a [`Source`], which gets it back when it is dropped.
pub trait Block: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}

/// A source of other memory than the allocator's, e.g. page-locked memory, which a GPU reads faster.
pub trait Source: Send + Sync {
    /// `len` bytes, aligned to [`ALIGNMENT`]; `None` if it is exhausted.
    fn allocate(&self, len: usize) -> Option<Box<dyn Block>>;
}

enum Memory {
    Own(Vec<Line>),
    Borrowed(Box<dyn Block>),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(lines) => bytemuck::cast_slice(lines),
            Self::Borrowed(block) => (**block).as_ref(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(lines) => bytemuck::cast_slice_mut(lines),
            Self::Borrowed(block) => (**block).as_mut(),
        }
    }
}

/// A pool of 64-byte aligned buffers. Clones share the pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    max_idle_bytes: usize,
    idle: Mutex<Idle>,
    source: OnceLock<Arc<dyn Source>>,
}

#[derive(Default)]
struct Idle {
    bytes: usize,
    buffers: Vec<Memory>,
}

impl Idle {
    /// The most recently used buffer of this size: its pages are in the caches.
    fn take(&mut self, bytes: usize, is_wanted: impl Fn(&Memory) -> bool) -> Option<Memory> {
        let found = self.buffers.iter().rposition(|buffer| buffer.bytes().len() == bytes && is_wanted(buffer));
        found.map(|at| {
            self.bytes -= bytes;
            self.buffers.remove(at)
        })
    }
}

impl BufferPool {
    /// A pool that keeps at most `max_idle_bytes` of unused buffers.
    pub fn new(max_idle_bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { max_idle_bytes, idle: Mutex::default(), source: OnceLock::new() }) }
    }

    /// Takes new buffers of 4 KiB and more from `source` until it is exhausted. Only the first call has an effect.
    pub fn set_source(&self, source: Arc<dyn Source>) {
        let _ = self.shared.source.set(source);
    }

    /// A buffer of `len` bytes, aligned to [`ALIGNMENT`]. Its content is unspecified: it may be an earlier user's.
    pub fn take(&self, len: usize) -> Buffer {
        let lines = class_of(len);
        let memory = self.kept_or_borrowed(lines).unwrap_or_else(|| Memory::Own(vec![Line::zeroed(); lines]));
        Buffer { memory, len, pool: Arc::clone(&self.shared) }
    }

    fn kept_or_borrowed(&self, lines: usize) -> Option<Memory> {
        if lines < MIN_KEPT_LINES {
            return None;
        }
        let bytes = lines * ALIGNMENT;
        let kept = |is_wanted: fn(&Memory) -> bool| self.shared.idle.lock().take(bytes, is_wanted);
        let Some(source) = self.shared.source.get() else { return kept(|_| true) };
        kept(|memory| matches!(memory, Memory::Borrowed(_)))
            .or_else(|| source.allocate(bytes).map(Memory::Borrowed))
            .or_else(|| kept(|_| true))
    }

    /// The maximum of [`idle_bytes`](Self::idle_bytes).
    pub fn max_idle_bytes(&self) -> usize {
        self.shared.max_idle_bytes
    }

    /// Bytes in unused buffers.
    pub fn idle_bytes(&self) -> usize {
        self.shared.idle.lock().bytes
    }
}

/// Lines of the size class for `len` bytes: four classes between powers of two, so at most a quarter is wasted.
fn class_of(len: usize) -> usize {
    let lines = len.div_ceil(ALIGNMENT).max(1);
    let step = (lines.next_power_of_two() / 8).max(1);
    lines.next_multiple_of(step)
}

/// A writable buffer from a [`BufferPool`]; [`freeze`](Self::freeze) makes it shareable.
pub struct Buffer {
    memory: Memory,
    len: usize,
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
        let memory = std::mem::replace(&mut self.memory, Memory::Own(Vec::new()));
        let bytes = memory.bytes().len();
        let mut idle = self.pool.idle.lock();
        if bytes >= MIN_KEPT_LINES * ALIGNMENT && idle.bytes + bytes <= self.pool.max_idle_bytes {
            idle.bytes += bytes;
            idle.buffers.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            prop_assert!(class_of(len) * ALIGNMENT <= len + len / 4 + 2 * ALIGNMENT);
        }
    }
}
