//! The trait of all streams.

use tokio::io::{AsyncRead, AsyncWrite};

/// Any kind of stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
