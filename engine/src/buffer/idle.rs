//! Buffers that nobody uses at the moment, by size.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::memory::{MIN_KEPT_BYTES, Memory};

/// How long a buffer is kept that nobody uses.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Sizes and sources of buffers; a buffer is found by both.
type Class = (usize, bool);

/// A buffer, and when it was last used.
type Kept = (Instant, Memory);

/// At most this many bytes of unused buffers.
pub(super) struct Idle {
    max_bytes: usize,
    bytes: usize,
    /// Of each class, the most recently used buffer is the last. There are at most four classes to a power of two.
    classes: HashMap<Class, VecDeque<Kept>>,
    /// When buffers were last looked through for those that nobody uses.
    trimmed: Option<Instant>,
}

impl Idle {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, classes: HashMap::new(), trimmed: None }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most recently used buffer of this size: its pages are in the caches.
    pub(super) fn take(&mut self, bytes: usize, is_borrowed: bool) -> Option<Memory> {
        let (_, memory) = self.classes.get_mut(&(bytes, is_borrowed))?.pop_back()?;
        self.bytes -= bytes;
        Some(memory)
    }

    /// Keeps a buffer, if there is room for it. Returns what is to be freed, outside of any lock.
    pub(super) fn put(&mut self, memory: Memory, now: Instant) -> Vec<Kept> {
        let mut freed = self.trim(now);
        let bytes = memory.bytes().len();
        if bytes >= MIN_KEPT_BYTES && self.bytes + bytes <= self.max_bytes {
            self.bytes += bytes;
            self.classes.entry((bytes, memory.is_borrowed())).or_default().push_back((now, memory));
        } else if bytes > 0 {
            freed.push((now, memory));
        }
        freed
    }

    /// The buffers that nobody has used for [`KEPT_FOR`], from time to time.
    pub(super) fn trim(&mut self, now: Instant) -> Vec<Kept> {
        let mut freed = Vec::new();
        let is_due = self.trimmed.is_none_or(|trimmed| now.saturating_duration_since(trimmed) >= KEPT_FOR / 8);
        if !is_due {
            return freed;
        }
        self.trimmed = Some(now);
        for kept in self.classes.values_mut() {
            while let Some((used, memory)) = kept.front()
                && now.saturating_duration_since(*used) >= KEPT_FOR
            {
                self.bytes -= memory.bytes().len();
                freed.extend(kept.pop_front());
            }
        }
        self.classes.retain(|_, kept| !kept.is_empty());
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_nobody_uses_is_freed() {
        let (mut idle, start) = (Idle::new(1 << 20), Instant::now());
        assert!(idle.put(Memory::zeroed(8192), start).is_empty());
        assert!(idle.put(Memory::zeroed(8192), start + KEPT_FOR / 2).is_empty());
        assert_eq!(idle.trim(start + KEPT_FOR).len(), 1);
        assert_eq!(idle.bytes(), 8192);
        assert!(idle.take(8192, false).is_some());
        assert!(idle.take(8192, false).is_none());
    }

    #[test]
    fn a_buffer_in_use_is_kept() {
        let (mut idle, mut now) = (Idle::new(1 << 20), Instant::now());
        let mut memory = Memory::zeroed(8192);
        for _ in 0..10 {
            now += KEPT_FOR / 2;
            assert!(idle.put(memory, now).is_empty());
            memory = idle.take(8192, false).unwrap();
        }
    }
}
