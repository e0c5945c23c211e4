//! Why a served connection failed.

use std::io;

use crate::frame::ErrorCode;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke a rule: a connection error (RFC 9113 §5.4.1). A GOAWAY with its code was sent.
    #[error("the client broke a rule of HTTP/2: {0}")]
    Protocol(ErrorCode),
    /// The client did not answer a PING.
    #[error("the client is silent")]
    Silent,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        // The standard has no code for a client that is gone.
        if code == ErrorCode::NoError { Self::Silent } else { Self::Protocol(code) }
    }
}
