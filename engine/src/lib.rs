//! The heart of the server: what a request is, and how it gets from a queue to an instance and back.
//!
//! ```text
//! InferRequest -> Model::infer -> Queue (bounded) -> instance thread -> Backend -> InferResponse
//!                              -> Composite: other models' infer
//! ```
//!
//! Nothing here knows a protocol, a serialisation format or an inference library. Invariants, held by
//! property tests:
//!
//! * every accepted request gets exactly one outcome;
//! * a batch never exceeds its maximum, and a request larger than it is refused at admission;
//! * requests of one priority and shape are served first in, first out (those delayed by a timeout
//!   behind the others of their priority);
//! * expired or cancelled work never runs, and a run that nobody waits for is stopped;
//! * the queue's length equals its counter on every path;
//! * with no `max_queue_delay`, a lone request is dispatched at once; with one, no request waits past
//!   it while an instance is idle, nor when all the clients that are about have a request open already;
//! * an instance runs one batch at a time, on its own thread; a model that is quicker than a thread wakes
//!   up, and whose instances any thread may run, answers a lone request on the thread that brought it.

pub mod backend;
pub mod batch;
pub mod buffer;
pub mod cache;
pub mod cancel;
pub mod error;
pub mod model;
pub mod registry;
pub mod request;
pub mod spec;
pub mod stats;
pub mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{Composite, InferFuture, Instance, Placement, RunTimings};
pub use buffer::BufferPool;
pub use cache::Cache;
pub use cancel::Cancel;
pub use error::{AdmissionError, ErrorKind, InferError, LookupError, Mismatch, NotReady, RowsError};
pub use model::{Model, Sample, StartError, WarmUpError};
pub use quintet_proto::DataType;
pub use registry::{Registry, VersionState};
pub use request::{InferRequest, InferResponse, OutputMemory, OutputPlacement, SentInput, Stage, StageTimings};
pub use spec::{BatchPolicy, ModelSpec, OutputSet, QueuePolicy, SpecError, TensorSpec, TimeoutAction};
pub use stats::FailureReason;
pub use tensor::{Shape, Tensor, TensorError};
