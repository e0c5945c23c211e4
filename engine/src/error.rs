//! Errors of requests, as data: each protocol has its own messages for them.

use std::{fmt, ops::RangeInclusive};

use quintet_proto::DataType;

use crate::{
    budget::Exhausted,
    tensor::{Shape, TensorError},
};

/// Kinds of failure; the transports map each to an HTTP status and a gRPC code in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such model, or no such version of it.
    NotFound,
    /// The request contradicts the model or the protocol: the client's mistake.
    InvalidInput,
    /// A body, an image or a batch is over a limit on bytes or pixels.
    TooLarge,
    /// The queue is full, or the request cannot be answered in time: the same request may succeed later.
    QueueFull,
    /// The memory for requests, or that of the model's device, is used up: the same request may succeed later.
    NoMemory,
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
    /// The model's device failed, and this process cannot use it any more: only another process can answer.
    DeviceLost,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::NotFound,
        Self::InvalidInput,
        Self::TooLarge,
        Self::QueueFull,
        Self::NoMemory,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unsupported,
        Self::Internal,
        Self::DeviceLost,
    ];
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The request does not fit the model.
    #[error(transparent)]
    Admission(#[from] Box<AdmissionError>),
    /// The model is not in service.
    #[error(transparent)]
    Lookup(#[from] Box<LookupError>),
    /// The maximum number of requests waits already.
    #[error("the model's queue is full")]
    QueueFull,
    /// The request cannot be answered before its client gives up.
    #[error("the model is overloaded: requests wait longer than clients do; try again later")]
    Overloaded,
    /// The model is being taken out of service.
    #[error("the model is shutting down")]
    ShuttingDown,
    /// The request's time ran out before it was run.
    #[error("the request's deadline has passed")]
    DeadlineExceeded,
    /// The client went away.
    #[error("the request was cancelled")]
    Cancelled,
    /// The thread of the instance that had the request ended.
    #[error("the model's instance ended without an answer")]
    InstanceLost,
    /// The backend panicked while it ran the request's batch.
    #[error("the backend panicked; see the server's log")]
    BackendPanicked,
    /// The server panicked while it prepared or answered the request.
    #[error("the server panicked on the request; see its log")]
    Panicked,
    /// The backend's output cannot be split into the rows of the batch's requests.
    #[error(transparent)]
    Rows(#[from] Box<RowsError>),
    /// The model ran, and does not give what its configuration says.
    #[error("{0}")]
    Misconfigured(Box<str>),
    /// Data that the server itself made does not fit its type and shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An error of code outside the engine (a backend, a composite, a protocol), with its message.
    #[error("{message}")]
    Other {
        /// The kind.
        kind: ErrorKind,
        /// Names the culprit and, where there is one, the remedy.
        message: Box<str>,
    },
}

impl InferError {
    /// An error of this kind with a message that names the culprit and, where there is one, the remedy.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self::Other { kind, message: message.to_string().into() }
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
        match self {
            Self::Admission(_) => ErrorKind::InvalidInput,
            Self::Lookup(error) => error.kind(),
            Self::QueueFull | Self::Overloaded => ErrorKind::QueueFull,
            Self::ShuttingDown => ErrorKind::Unavailable,
            Self::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::InstanceLost
            | Self::BackendPanicked
            | Self::Panicked
            | Self::Rows(_)
            | Self::Misconfigured(_)
            | Self::Tensor(_) => ErrorKind::Internal,
            Self::Other { kind, .. } => *kind,
        }
    }
}

impl From<Exhausted> for InferError {
    fn from(error: Exhausted) -> Self {
        let kind = match error {
            Exhausted::Alone { .. } => ErrorKind::TooLarge,
            Exhausted::Full { .. } => ErrorKind::NoMemory,
        };
        Self::new(kind, error)
    }
}

/// A request that does not fit its model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request to model '{model}': {mismatch}")]
pub struct AdmissionError {
    /// The client's id of the request; empty if it has none.
    pub request: String,
    /// Name of the model.
    pub model: String,
    /// What does not fit.
    pub mismatch: Mismatch,
}

/// How a request contradicts its model. Lists of inputs are in the order in which the request, or the model, has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Two inputs of one name.
    #[error("input '{input}' was sent twice")]
    DuplicateInput {
        /// Name of the input.
        input: String,
    },
    /// Too few or too many inputs.
    #[error("{sent} inputs were sent, expected {} to {}", expected.start(), expected.end())]
    InputCount {
        /// How many inputs the model takes: from those that are required to all.
        expected: RangeInclusive<usize>,
        /// How many inputs were sent.
        sent: usize,
        /// Names of the inputs that were sent; only the last ones of many.
        got: Vec<String>,
        /// Of the model's required inputs, those that were not sent.
        missing: Vec<String>,
        /// Of the inputs that were sent, those that the model does not have; only the last ones of many.
        unexpected: Vec<String>,
    },
    /// An input that the model does not have.
    #[error("the model has no input '{input}'")]
    UnexpectedInput {
        /// Name of the input.
        input: String,
    },
    /// An output that the model does not have.
    #[error("the model has no output '{output}'")]
    UnexpectedOutput {
        /// Name of the output.
        output: String,
    },
    /// No input was sent, all of them being optional, so the batch size is not known.
    #[error("no input was sent, so the batch size is not known")]
    UnknownBatchSize,
    /// An input without the batch dimension.
    #[error("input '{input}' has no batch dimension")]
    NoBatchDimension {
        /// Name of the input.
        input: String,
    },
    /// An input whose batch size is negative or not that of the others.
    #[error("input '{input}' has another batch size than other inputs")]
    BatchSizesDiffer {
        /// Name of the input.
        input: String,
    },
    /// A batch over the model's maximum.
    #[error("the batch size is over {max}")]
    BatchTooLarge {
        /// The model's maximum.
        max: usize,
    },
    /// A batch of no rows.
    #[error("the batch size is 0")]
    EmptyBatch,
    /// An input of another type than the model's.
    #[error("input '{input}' is of type {}, expected {expected}", got.map_or("<unknown>", DataType::name))]
    DataType {
        /// Name of the input.
        input: String,
        /// Its type in the request; `None` if the name of the type is unknown.
        got: Option<DataType>,
        /// Its type in the model.
        expected: DataType,
    },
    /// An input of another shape than the model's.
    #[error("input '{input}' has shape {got:?}, expected {expected:?}")]
    Shape {
        /// Name of the input.
        input: String,
        /// Its shape in the request.
        got: Vec<i64>,
        /// Its shape in the model, the batch dimension included if there is one; -1 for a dynamic dimension.
        expected: Vec<i64>,
        /// Whether the first dimension is the batch's.
        batches: bool,
    },
    /// An input whose data does not fit its type and shape.
    #[error("input '{input}': {error}")]
    Data {
        /// Name of the input.
        input: String,
        /// What does not fit. In a batch of no rows: what one row lacks.
        error: TensorError,
    },
}

/// A model, or a version of it, that is not in service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model '{model}'{}: {reason}", version.map(|version| format!(" version {version}")).unwrap_or_default())]
pub struct LookupError {
    /// Name of the model.
    pub model: String,
    /// The version asked for; `None` for the latest one.
    pub version: Option<u64>,
    /// Why it is not in service.
    pub reason: NotReady,
}

impl LookupError {
    /// [`ErrorKind::NotFound`] if the version does not exist, or if no version is named and none is ready;
    /// [`ErrorKind::Unavailable`] for a named version that is not ready, and while the model is shut down or has lost its
    /// device: a client must be able to distinguish a server that cannot answer now from one that never had the model.
    pub fn kind(&self) -> ErrorKind {
        match (self.version, &self.reason) {
            (_, NotReady::Unknown) => ErrorKind::NotFound,
            (None, NotReady::Loading | NotReady::Failed(_) | NotReady::Unloaded) => ErrorKind::NotFound,
            (Some(_), _) | (None, NotReady::ShuttingDown | NotReady::DeviceLost(_)) => ErrorKind::Unavailable,
        }
    }
}

/// Why a model is not in service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The model, or the version of it, does not exist.
    #[error("not found")]
    Unknown,
    /// It is being loaded and warmed.
    #[error("loading")]
    Loading,
    /// It answers the requests that it has, and takes no more.
    #[error("shutting down")]
    ShuttingDown,
    /// It could not be loaded.
    #[error("{0}")]
    Failed(String),
    /// A client had it taken out of service.
    #[error("unloaded")]
    Unloaded,
    /// Its device failed, and this process cannot use it any more.
    #[error("{0}")]
    DeviceLost(String),
}

/// An output that does not have the batch's rows: the model does not batch as it is configured to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "output '{output}' of model '{model}' has shape {shape} for a batch of {rows}; expected {rows} as its first dimension"
)]
pub struct RowsError {
    /// Name of the model.
    pub model: String,
    /// Name of the output.
    pub output: String,
    /// Its shape.
    pub shape: Shape,
    /// Rows of the batch.
    pub rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_request_is_small_to_return() {
        assert!(size_of::<InferError>() <= 32);
    }

    #[test]
    fn a_lookup_is_not_found_or_unavailable() {
        use ErrorKind::{NotFound, Unavailable};
        let kind = |version, reason| LookupError { model: "m".into(), version, reason }.kind();
        for (reason, latest, named) in [
            (NotReady::Unknown, NotFound, NotFound),
            (NotReady::Loading, NotFound, Unavailable),
            (NotReady::Failed("no file".into()), NotFound, Unavailable),
            (NotReady::Unloaded, NotFound, Unavailable),
            (NotReady::ShuttingDown, Unavailable, Unavailable),
            (NotReady::DeviceLost("CUDA failure 700".into()), Unavailable, Unavailable),
        ] {
            assert_eq!((kind(None, reason.clone()), kind(Some(1), reason.clone())), (latest, named), "{reason}");
        }
    }
}
