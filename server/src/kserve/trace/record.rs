//! The record of a traced request, which is handed to a writer.

use std::time::Instant;

use quintet_engine::Tensor;

use super::{context::Context, settings::Levels};

/// A timestamp with Triton's name for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) name: &'static str,
    pub(super) at: Instant,
}

/// An input or output of a traced request.
#[derive(Clone, Debug)]
pub(super) struct TracedTensor {
    /// Triton's name for the point where it was recorded.
    pub(super) activity: &'static str,
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// Everything recorded about a traced request.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) model: String,
    pub(super) version: u64,
    /// The client's id for the request; empty if it has none.
    pub(super) request_id: String,
    pub(super) levels: Levels,
    /// Traces per file; 0 puts all traces into one file.
    pub(super) log_frequency: u32,
    /// The client's trace that the request is part of.
    pub(super) context: Option<Context>,
    pub(super) stamps: Vec<Stamp>,
    pub(super) tensors: Vec<TracedTensor>,
    /// The error text, if the request failed.
    pub(super) error: Option<String>,
    /// The trace id of the ensemble's request, if this is one of its steps; otherwise 0.
    pub(super) parent_id: u64,
    /// The records of the steps, if the model is an ensemble.
    pub(super) steps: Vec<Record>,
}

impl Record {
    /// Bytes of the tensors of the request and of its steps.
    pub(super) fn tensor_bytes(&self) -> usize {
        let own: usize = self.tensors.iter().map(|traced| traced.tensor.data().len()).sum();
        own + self.steps.iter().map(Self::tensor_bytes).sum::<usize>()
    }
}
