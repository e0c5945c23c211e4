//! The state of a stream that is not closed (RFC 9113 §5.1).

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
    /// Bytes of DATA that the application has got and not released.
    pub(super) unreleased: u32,
}

impl Stream {
    pub(super) fn new(state: StreamState, send_window_bytes: u32) -> Self {
        Self {
            state,
            is_last_frame: false,
            recv_window: RecvWindow::new(STREAM_WINDOW_BYTES),
            send_window: SendWindow::new(send_window_bytes),
            unreleased: 0,
        }
    }
}
