//! Limits of a gRPC listener.

use crate::catalog::InputLimit;

/// Limits of a gRPC listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message.
    pub max_input: InputLimit,
    /// Requests of one `ModelStreamInfer` that are begun and not answered.
    pub max_stream_requests: usize,
}

/// Requests of one stream that may be begun at once by default.
pub const MAX_STREAM_REQUESTS: usize = 64;
