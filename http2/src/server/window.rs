//! Flow control: what either side may still send (RFC 9113, section 5.2).

use crate::frame::{DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES};

/// What the client may still send.
pub(super) struct Receive {
    size: u32,
    left: u32,
    /// Used since the client was last told.
    used: u32,
}

impl Receive {
    pub(super) fn new(size: u32) -> Self {
        Self { size, left: size, used: 0 }
    }

    /// A frame's bytes come; whether they may.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Bytes that came were used; what the client should be told, once it is worth a frame.
    pub(super) fn release(&mut self, bytes: u32) -> Option<u32> {
        self.used += bytes;
        if self.used < self.size / 2 {
            return None;
        }
        self.left += self.used;
        Some(std::mem::take(&mut self.used))
    }
}

/// What the client takes. Less than nothing after it has made its windows smaller.
pub(super) struct Send(i64);

impl Send {
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    pub(super) fn left(&self) -> usize {
        self.0.max(0) as usize
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// The client says more, or less; whether it may.
    pub(super) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= MAX_WINDOW_BYTES.into()
    }
}

impl Default for Send {
    fn default() -> Self {
        Self::new(DEFAULT_WINDOW_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the client may send is what it could at first, less what came and was not used, and less at most half
        /// of it that it was not told of.
        #[test]
        fn what_was_used_comes_back(size in 2u32..1000, frames in prop::collection::vec(0u32..100, 0..200)) {
            let mut window = Receive::new(size);
            let mut client = i64::from(size);
            for frame in frames {
                let fits = i64::from(frame) <= client;
                prop_assert_eq!(window.take(frame), fits);
                if !fits {
                    return Ok(());
                }
                client -= i64::from(frame);
                client += window.release(frame).map_or(0, i64::from);
                prop_assert!((i64::from(size / 2)..=i64::from(size)).contains(&client));
            }
        }
    }
}
