//! A buffer that a body of a known length is received into. Memory follows the bytes that arrive: they are charged to
//! the budget as they come, and the pages of a new buffer are the system's until they are written.

use bytes::Bytes;

use super::pool::{Buffer, BufferPool};
use crate::budget::Exhausted;

/// The least bytes that are charged at once; later steps are as large as what was received before.
const STEP_BYTES: usize = 256 << 10;

/// A body that is being received.
pub struct Filling {
    buffer: Buffer,
    /// Where the body begins.
    start: usize,
    /// Where its next byte goes.
    at: usize,
    /// Whether the memory has all its pages, so that it is charged whole.
    is_whole: bool,
}

impl Filling {
    /// Starts to receive a body of `length` bytes, which begins after `padding` bytes. Call it when the first bytes of
    /// the body are there: the buffer may be one that was used before, which has all its pages.
    ///
    /// # Errors
    /// [`Exhausted::Alone`] if it can never be received.
    pub fn start(pool: &BufferPool, padding: usize, length: usize) -> Result<Self, Exhausted> {
        pool.budget().check(padding + length)?;
        let (buffer, is_whole) = pool.begin(padding + length);
        Ok(Self { buffer, start: padding, at: padding, is_whole })
    }

    /// Bytes that were received.
    pub fn received(&self) -> usize {
        self.at - self.start
    }

    /// Bytes of the body.
    pub fn length(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether the whole body was received.
    pub fn is_complete(&self) -> bool {
        self.at == self.buffer.len()
    }

    /// Where the next bytes may be written; empty if the body is complete, or if it has to [grow](Self::grow) first.
    pub fn spare(&mut self) -> &mut [u8] {
        let end = if self.is_whole { self.buffer.len() } else { self.buffer.charge.bytes().min(self.buffer.len()) };
        self.buffer.get_mut(self.at..end).unwrap_or_default()
    }

    /// The first `bytes` of [`spare`](Self::spare) were written.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Copies the next bytes, as many as fit in [`spare`](Self::spare). Returns how many.
    pub fn copy(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let length = spare.len().min(bytes.len());
        spare[..length].copy_from_slice(&bytes[..length]);
        self.advance(length);
        length
    }

    /// The bytes to charge next, and those that the body still needs.
    fn step(&self) -> (usize, usize) {
        let left = self.buffer.len() - self.buffer.charge.bytes();
        (left.min(self.at.max(STEP_BYTES)), left)
    }

    /// Charges the next bytes, and waits for memory if there is too little. Afterwards [`spare`](Self::spare) is not
    /// empty unless the body is complete.
    ///
    /// # Errors
    /// [`Exhausted::Full`] after the longest wait.
    pub async fn grow(&mut self) -> Result<(), Exhausted> {
        if !self.spare().is_empty() || self.is_complete() {
            return Ok(());
        }
        let (bytes, left) = self.step();
        self.buffer.charge.grow(bytes, left).await
    }

    /// As [`grow`](Self::grow), without waiting.
    ///
    /// # Errors
    /// [`Exhausted::Full`].
    pub fn try_grow(&mut self) -> Result<(), Exhausted> {
        if !self.spare().is_empty() || self.is_complete() {
            return Ok(());
        }
        let (bytes, _) = self.step();
        self.buffer.charge.try_grow(bytes)
    }

    /// The body. Its bytes that were not received are unspecified.
    pub fn finish(mut self) -> Bytes {
        self.buffer.charge.complete();
        self.buffer.freeze().slice(self.start..)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::budget::{Bounds, Budget};

    const LENGTH: usize = 8 << 20;

    fn pool() -> BufferPool {
        let bounds = Bounds { bytes: 3 * LENGTH, largest_body: LENGTH + 64, wait: Duration::ZERO, flag: "--flag" };
        BufferPool::within(4 * LENGTH, Budget::new(bounds))
    }

    fn receive(body: &mut Filling, mut bytes: usize) {
        while bytes > 0 {
            body.grow().now_or_never().unwrap().unwrap();
            let length = body.spare().len().min(bytes);
            body.advance(length);
            bytes -= length;
        }
    }

    #[test]
    fn the_charge_follows_the_bytes_that_arrive() {
        let pool = pool();
        let mut body = Filling::start(&pool, 10, LENGTH).unwrap();
        assert_eq!(pool.budget().used(), 0);
        receive(&mut body, 1);
        assert_eq!(pool.budget().used(), STEP_BYTES);
        receive(&mut body, LENGTH / 2);
        assert!(pool.budget().used() <= LENGTH + 10);
        receive(&mut body, LENGTH / 2 - 1);
        assert!(body.is_complete());
        let body = body.finish();
        assert_eq!((body.len(), pool.budget().used()), (LENGTH, LENGTH + 10));
        drop(body);
        assert_eq!(pool.budget().used(), 0);
        assert!(pool.idle_bytes() >= LENGTH);
    }

    #[test]
    fn a_buffer_that_was_used_before_is_charged_whole() {
        let pool = pool();
        drop(pool.take(LENGTH));
        let idle = pool.idle_bytes();
        let mut body = Filling::start(&pool, 0, LENGTH).unwrap();
        assert_eq!((pool.budget().used(), pool.idle_bytes()), (LENGTH, 0));
        assert_eq!(body.spare().len(), LENGTH);
        drop(body);
        assert_eq!((pool.budget().used(), pool.idle_bytes()), (0, idle));
    }

    #[test]
    fn a_body_over_the_budget_is_refused() {
        let pool = pool();
        assert!(matches!(Filling::start(&pool, 0, LENGTH + 65), Err(Exhausted::Alone { .. })));
        let _held = pool.take(3 * LENGTH);
        let mut body = Filling::start(&pool, 0, LENGTH).unwrap();
        assert!(matches!(body.try_grow(), Err(Exhausted::Full { .. })));
        assert!(body.spare().is_empty());
    }
}
