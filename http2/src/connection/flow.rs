//! Flow-control windows: how many bytes of DATA either side may still send (RFC 9113 §5.2 and §6.9).

use crate::frame::MAX_WINDOW_BYTES;

/// What the client may send.
pub(super) struct RecvWindow {
    size: u32,
    left: u32,
    /// Bytes that were consumed and not yet returned to the client with a WINDOW_UPDATE.
    consumed: u32,
}

impl RecvWindow {
    pub(super) fn new(size: u32) -> Self {
        Self { size, left: size, consumed: 0 }
    }

    /// Takes a received frame's payload from the window; false if it exceeds the window.
    pub(super) fn receive(&mut self, bytes: u32) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns consumed bytes to the window; the increment to send, once half of the window was consumed.
    pub(super) fn release(&mut self, bytes: u32) -> Option<u32> {
        self.consumed += bytes;
        if self.consumed < self.size / 2 {
            return None;
        }
        self.left += self.consumed;
        Some(std::mem::take(&mut self.consumed))
    }
}

/// What the server may send.
// RFC 9113 §6.9.2: a change of the initial window size can make a window negative, which MUST be tracked; nothing MUST
// be sent until it is positive again.
#[derive(Clone, Copy)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Bytes that may be sent.
    pub(super) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    /// Takes the payload of a frame that is sent.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// Adds an increment, or the difference between two initial window sizes; false if the window exceeds the largest.
    pub(super) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        // RFC 9113 §6.9.1: a sender MUST NOT allow a flow-control window to exceed 2^31-1 bytes.
        self.0 <= MAX_WINDOW_BYTES.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The client's view of the window is the size, less what was received and not consumed, and less at most half
        /// of the size that was consumed and not returned yet.
        #[test]
        fn consumed_bytes_are_returned(size in 2u32..1000, frames in prop::collection::vec(0u32..100, 0..200)) {
            let mut window = RecvWindow::new(size);
            let mut client = i64::from(size);
            for frame in frames {
                let fits = i64::from(frame) <= client;
                prop_assert_eq!(window.receive(frame), fits);
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
