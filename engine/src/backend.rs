//! What runs a model: implemented outside, by ONNX Runtime for one.

use std::{
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

/// One loaded copy of a model. It runs one batch at a time, on a thread of its own unless [`runs_on_any_thread`](Self::runs_on_any_thread).
pub trait Instance: Send {
    /// Runs the model on `inputs`: one entry for each of its inputs, in its order, with all rows of the batch; `None`
    /// for an optional one that all of the batch leave out. Returns one entry for each of its outputs, `None` where it
    /// is not in `wanted`. An instance that can stop halfway does so when `cancel` is cancelled
    /// ([`Cancel::on_cancel`]).
    ///
    /// # Errors
    /// Whatever the backend reports, anything if the run was cancelled; the instance must stay usable.
    fn run(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError>;

    /// As [`run`](Self::run), for a lone request that wants outputs in places of its own. An instance that can writes
    /// them there and returns them as views; one that cannot does not look at the places.
    ///
    /// # Errors
    /// As `run`; what stands in the places is of no meaning then.
    fn run_into(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        placements: &[OutputPlacement],
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let _ = placements;
        self.run(inputs, wanted, cancel, timings)
    }

    /// Where the model really runs.
    fn placement(&self) -> Placement;

    /// Whether it is as good on any thread as on its own: quick runs may then do without a change of threads. What a
    /// GPU's library keeps for each thread does not move.
    fn runs_on_any_thread(&self) -> bool {
        false
    }
}

/// Calls an instance; a panic in it costs its batch, not the server.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(InferError::BackendPanicked))
}

/// What a [`Composite`] answers with.
pub type InferFuture<'a> = Pin<Box<dyn Future<Output = Result<InferResponse, InferError>> + Send + 'a>>;

/// How a model made of models answers: implemented outside, where other models are found.
pub trait Composite: Send + Sync {
    /// Answers a request by asking other models. Dropping the future must cancel what it has asked.
    ///
    /// # Errors
    /// What the models that it asks refuse.
    fn infer(&self, request: InferRequest) -> InferFuture<'_>;

    /// Whether the models that it asks are all there, and what they were when it was made to fit them.
    fn is_current(&self) -> bool {
        true
    }
}

/// Where a model really runs, as read back from the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The effective provider: the one that runs most of the model's nodes, e.g. `CPUExecutionProvider`.
    pub provider: String,
    /// Nodes of the graph on each provider, most first.
    pub nodes: Vec<(String, usize)>,
    /// What it calculates in where that is narrower than the model's own numbers, e.g. `FP16`.
    pub precision: Option<String>,
    /// Why a provider that was asked for is not the effective one.
    pub reason: Option<String>,
}

/// `CUDAExecutionProvider in TF32 (nodes: 120 on CUDAExecutionProvider, 2 on CPUExecutionProvider); reason`
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
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
