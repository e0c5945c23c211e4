//! The traits of a backend, which runs models, and of a composite, which calls other models.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    time::Duration,
};

use crate::{
    cancel::Cancel,
    error::InferError,
    request::{InferRequest, InferResponse, OutputPlacement},
    spec::OutputSet,
    tensor::Tensor,
};

/// Times inside one run of an [`Instance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimings {
    /// Batch to the backend's input.
    pub copy_in: Duration,
    /// The model's run.
    pub infer: Duration,
    /// The backend's output to the server's buffers.
    pub copy_out: Duration,
}

/// The input of one run of an [`Instance`].
#[derive(Clone, Copy, Debug)]
pub struct RunRequest<'a> {
    /// One entry for each of the model's inputs, in its order, with all rows of the batch; `None` for an optional one
    /// that all requests of the batch omit.
    pub inputs: &'a [Option<Tensor>],
    /// The outputs to return.
    pub outputs: OutputSet,
    /// The client's memory for outputs, if the batch is a lone request. An instance that can writes the outputs there
    /// and returns views of them; others ignore it. After an error its content is undefined.
    pub placements: &'a [OutputPlacement],
    /// An instance that can stop a run does so when this is cancelled ([`Cancel::on_cancel`]).
    pub cancel: &'a Cancel,
}

/// One loaded copy of a model. It runs one batch at a time, on its own thread, or on several in turn if it
/// [`runs_on_any_thread`](Self::runs_on_any_thread).
pub trait Instance: Send {
    /// Runs the model. Returns one entry for each of its outputs, `None` for those that were not requested, and writes
    /// its times to `timings`.
    ///
    /// # Errors
    /// Any error of the backend, also after a cancelled run; the instance must stay usable.
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError>;

    /// Where the model really runs.
    fn placement(&self) -> Placement;

    /// Whether any thread may run it, so that a quick run needs no change of threads. `false` where a library keeps
    /// state for each thread, as those of GPUs do.
    fn runs_on_any_thread(&self) -> bool {
        false
    }

    /// How long it waits for a batch before [`rest`](Self::rest) is called, on its own thread; `None` if it never is.
    fn rests_after(&self) -> Option<Duration> {
        None
    }

    /// Gives back what only runs need, until the next one.
    fn rest(&mut self) {}
}

/// Calls an instance; a panic in it fails the batch, not the server.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
    guarded_as(InferError::BackendPanicked, run)
}

/// Calls code that may panic; a panic in it is this error.
pub(crate) fn guarded_as<T>(panic: InferError, run: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(panic))
}

/// The response of a [`Composite`], in the future.
pub type InferFuture<'a> = Pin<Box<dyn Future<Output = Result<InferResponse, InferError>> + Send + 'a>>;

/// A model that calls other models, e.g. an ensemble.
pub trait Composite: Send + Sync {
    /// Answers a request by calling other models. Dropping the future must cancel these calls.
    ///
    /// # Errors
    /// Those of the models that it calls.
    fn infer(&self, request: InferRequest) -> InferFuture<'_>;

    /// Adds the generations of the models that it would call now, and of those that these call
    /// ([`crate::Model::generations`]). Returns whether all of them are in service; the response cache keeps nothing
    /// otherwise.
    fn generations(&self, found: &mut BTreeSet<u64>) -> bool;

    /// Whether the models that it calls are all in service and have not changed since it was made.
    fn is_current(&self) -> bool {
        true
    }
}

/// Where a model really runs, as read back from the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The effective provider: the one that runs most of the model's nodes, e.g. `CPUExecutionProvider`.
    pub provider: String,
    /// Nodes of the graph on each provider, most first.
    pub nodes: Vec<(String, usize)>,
    /// The device that the provider runs on, where its name alone does not say which.
    pub device: Option<Device>,
    /// The precision of the computation where it is lower than that of the model's own numbers, e.g. `FP16`.
    pub precision: Option<String>,
    /// Why a provider that was asked for is not the effective one.
    pub reason: Option<String>,
    /// The GPU that it runs on, e.g. `NVIDIA H200`; `None` without one.
    pub gpu: Option<String>,
    /// CPU threads that run one operator together.
    pub threads: Option<usize>,
    /// The source of its weights as the model file states it: `seed 0` if they are random.
    pub weights: Option<String>,
    /// Names and versions of the libraries that run it, e.g. `onnxruntime` and `1.24.1`.
    pub software: Vec<(String, String)>,
}

/// A device as an execution provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `CPU`, `GPU` or `NPU`.
    pub kind: String,
    /// Its own name, or its maker's.
    pub name: String,
}

/// `CUDAExecutionProvider in TF32 (nodes: 120 on CUDAExecutionProvider, 2 on CPUExecutionProvider); reason`
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        if let Some(Device { kind, name }) = &self.device {
            write!(f, " on {kind} {name}")?;
        }
        if let Some(precision) = &self.precision {
            write!(f, " in {precision}")?;
        }
        if !self.nodes.is_empty() {
            let nodes: Vec<_> = self.nodes.iter().map(|(provider, n)| format!("{n} on {provider}")).collect();
            write!(f, " (nodes: {})", nodes.join(", "))?;
        }
        match &self.reason {
            Some(reason) => write!(f, "; {reason}"),
            None => Ok(()),
        }
    }
}
