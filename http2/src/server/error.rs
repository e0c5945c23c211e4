//! Why a connection or a stream ends.

use std::io;

/// The codes of RFC 9113, section 7, as far as the server has a use for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// Why a connection ends at once.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client broke a rule; it is told so.
    #[error("the client broke a rule of HTTP/2: {0:?}")]
    Rule(Code),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}
