//! Options of a gRPC listener.

use crate::{catalog::InputLimit, transport::encoding::Effort};

/// Options of a gRPC listener.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Maximum size of a message.
    pub max_input: InputLimit,
    /// Requests of one `ModelStreamInfer` that run at once.
    pub max_stream_requests: usize,
    /// How hard responses of `ModelInfer` are compressed if the client accepts it; `None` for not at all.
    pub compression: Option<Effort>,
}

/// The default of [`Options::max_stream_requests`].
pub const MAX_STREAM_REQUESTS: usize = 64;
