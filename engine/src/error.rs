//! What can go wrong with a request, free of any protocol.

use std::fmt;

/// Kinds of failure; the transports map each to an HTTP status and a gRPC code in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such model, or no such version of it.
    NotFound,
    /// The request contradicts the model or the protocol: the client's mistake.
    InvalidInput,
    /// A body, an image or a batch is over a limit on bytes or pixels.
    TooLarge,
    /// The queue is full: the same request may succeed later.
    QueueFull,
    /// The model or the server is not ready or is shutting down.
    Unavailable,
    /// The request's time ran out before it was run.
    DeadlineExceeded,
    /// The client went away.
    Cancelled,
    /// The protocol has it, this server does not.
    Unsupported,
    /// The backend or the server itself failed.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::InvalidInput,
        Self::TooLarge,
        Self::QueueFull,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unsupported,
        Self::Internal,
    ];
}

/// A failed request: its kind and a message for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InferError {
    kind: ErrorKind,
    message: String,
}

impl InferError {
    /// An error of this kind with a message that names the culprit and, where there is one, the remedy.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}
