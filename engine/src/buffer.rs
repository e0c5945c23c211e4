//! Aligned buffers that are used again: a fresh buffer of a tensor's size costs a page fault for each 4 KiB.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use parking_lot::Mutex;

/// Alignment of every buffer in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// Smallest buffer kept, in lines (4 KiB); what is smaller, the allocator serves well.
const MIN_KEPT_LINES: usize = 64;

/// A pool of 64-byte aligned buffers. Clones share the pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    max_idle_bytes: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    bytes: usize,
    buffers: Vec<Vec<Line>>,
}

impl BufferPool {
    /// A pool that keeps at most `max_idle_bytes` of unused buffers.
    pub fn new(max_idle_bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { max_idle_bytes, idle: Mutex::default() }) }
    }

    /// A buffer of `len` bytes, aligned to [`ALIGNMENT`]. Its content is whatever an earlier user left.
    pub fn take(&self, len: usize) -> Buffer {
        let lines = class_of(len);
        let kept = {
            let mut idle = self.shared.idle.lock();
            // The most recently used one of the class: its pages are warm.
            let found = idle.buffers.iter().rposition(|buffer| buffer.len() == lines);
            found.map(|at| {
                let buffer = idle.buffers.remove(at);
                idle.bytes -= buffer.len() * ALIGNMENT;
                buffer
            })
        };
        let lines = kept.unwrap_or_else(|| vec![Line::zeroed(); lines]);
        Buffer { lines, len, pool: Arc::clone(&self.shared) }
    }

    /// Bytes in unused buffers.
    pub fn idle_bytes(&self) -> usize {
        self.shared.idle.lock().bytes
    }
}

/// Lines of the size class that holds `len` bytes: four classes to an octave, so at most a quarter is wasted.
fn class_of(len: usize) -> usize {
    let lines = len.div_ceil(ALIGNMENT).max(1);
    let step = (lines.next_power_of_two() / 8).max(1);
    lines.next_multiple_of(step)
}

/// A writable buffer from a [`BufferPool`]; [`freeze`](Self::freeze) makes it shareable.
pub struct Buffer {
    lines: Vec<Line>,
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
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let bytes = lines.len() * ALIGNMENT;
        let mut idle = self.pool.idle.lock();
        if lines.len() >= MIN_KEPT_LINES && idle.bytes + bytes <= self.pool.max_idle_bytes {
            idle.bytes += bytes;
            idle.buffers.push(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_buffer_comes_back_with_the_last_reader() {
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
