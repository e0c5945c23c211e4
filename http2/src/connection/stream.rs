//! The state of a stream that is not closed (RFC 9113 §5.1).

use std::time::Instant;

use super::{
    flow::{RecvWindow, SendWindow},
    limits::STREAM_WINDOW_BYTES,
};

/// The states that a stream of a server has between idle and closed. The server closes a stream at once when its
/// response is complete, so none is "half-closed (local)"; it pushes nothing, so none is "reserved".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamState {
    /// The client may send more of the request.
    Open,
    /// The client has sent all of the request.
    HalfClosedRemote,
}

/// A stream that is open or half-closed (remote).
pub(super) struct Stream {
    pub(super) state: StreamState,
    /// Whether a DATA frame with END_STREAM is being received: the client needs no more window.
    pub(super) is_last_frame: bool,
    pub(super) recv_window: RecvWindow,
    pub(super) send_window: SendWindow,
    /// Whether data waits for the send window.
    pub(super) is_blocked: bool,
    /// Bytes of DATA that the application has got and not released.
    pub(super) unreleased: u32,
    /// Bytes of the body that have not come, if the request has a content-length.
    content_left: Option<u64>,
    pub(super) opened: Instant,
}

impl Stream {
    pub(super) fn new(state: StreamState, send_window_bytes: u32, content_length: Option<u64>, now: Instant) -> Self {
        Self {
            state,
            is_last_frame: false,
            recv_window: RecvWindow::new(STREAM_WINDOW_BYTES),
            send_window: SendWindow::new(send_window_bytes),
            is_blocked: false,
            unreleased: 0,
            content_left: content_length,
            opened: now,
        }
    }

    /// Whether data waited for the send window, and need not wait any more.
    pub(super) fn unblock(&mut self) -> bool {
        self.is_blocked && self.send_window.available() > 0 && std::mem::take(&mut self.is_blocked)
    }

    /// Counts the next bytes of the body; false if they contradict content-length.
    // RFC 9113 §8.1.1: a request is malformed if its content-length is not the sum of the lengths of its DATA frames,
    // without their padding.
    pub(super) fn count_content(&mut self, bytes: u32, is_last: bool) -> bool {
        let Some(left) = self.content_left else { return true };
        self.content_left = Some(left.saturating_sub(bytes.into()));
        if is_last { left == u64::from(bytes) } else { left >= u64::from(bytes) }
    }
}
