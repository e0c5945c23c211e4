//! Limits of a gRPC listener.

use crate::catalog::InputLimit;

/// Limits of a gRPC listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size of a message.
    pub max_input: InputLimit,
    /// Requests of one `ModelStreamInfer` that run at once.
    pub max_stream_requests: usize,
}

/// The default of [`Limits::max_stream_requests`].
pub const MAX_STREAM_REQUESTS: usize = 64;
