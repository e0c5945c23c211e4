//! Any kind of stream that HTTP is spoken on.

use tokio::io::{AsyncRead, AsyncWrite};

/// Any kind of stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
