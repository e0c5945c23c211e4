//! Runs inference requests on models: admission, queues, batches, instances, the response cache and counters.
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
//!   after the others of their priority), but newest first while clients give up on an adaptive queue;
//! * expired or cancelled work never runs, and a run is stopped when all of its requests are cancelled;
//! * the queue's length equals its counter on every path;
//! * without `max_queue_delay`, a lone request is dispatched at once; with it, no request waits longer
//!   than that while an instance is idle, or when every active client has an open request;
//! * an instance runs one batch at a time, on its own thread; a lone request to a model that is faster
//!   than a thread wakes up runs on the caller's thread, if the model's instances run on any thread.
//!
//! Errors are data ([`InferError`]): a protocol puts them into its own words.

pub mod backend;
pub mod batch;
pub mod budget;
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

pub use backend::{Composite, Device, InferFuture, Instance, Placement, RunRequest, RunTimings};
pub use budget::Budget;
pub use buffer::BufferPool;
pub use cache::Cache;
pub use cancel::Cancel;
pub use error::{AdmissionError, ErrorKind, InferError, LookupError, Mismatch, NotReady, RowsError};
pub use model::{GpuMemory, Model, Sample, StartError, WarmUpError};
pub use quintet_proto::DataType;
pub use registry::{Registry, VersionState};
pub use request::{InferRequest, InferResponse, OutputMemory, OutputPlacement, SentInput, Stage, StageTimings};
pub use spec::{
    BatchPolicy, Discipline, ModelSettings, ModelSpec, OutputSet, QueuePolicy, SpecError, TensorSpec, TimeoutAction,
};
pub use stats::FailureReason;
pub use tensor::{Shape, Tensor, TensorError};
