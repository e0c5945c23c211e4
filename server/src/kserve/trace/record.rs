//! The record of a traced request: what the writers get.

use std::time::Instant;

use quintet_engine::Tensor;

use super::{context::Context, settings::Levels};

/// When something happened, by Triton's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) name: &'static str,
    pub(super) at: Instant,
}

/// A tensor on its way in or out.
#[derive(Clone, Debug)]
pub(super) struct TracedTensor {
    /// Triton's name for where it was seen.
    pub(super) activity: &'static str,
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// What is known of a traced request.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) model: String,
    pub(super) version: u64,
    /// The client's name for the request; empty if it has none.
    pub(super) request_id: String,
    pub(super) levels: Levels,
    /// Traces in one file; 0 is all.
    pub(super) log_frequency: u32,
    /// The trace that the client made it part of.
    pub(super) context: Option<Context>,
    pub(super) stamps: Vec<Stamp>,
    pub(super) tensors: Vec<TracedTensor>,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// The trace of the request to an ensemble that it is a step of; 0 for none.
    pub(super) parent_id: u64,
    /// What was traced of the steps, where the model is an ensemble.
    pub(super) steps: Vec<Record>,
}

impl Record {
    /// Bytes of its tensors, and of its steps'.
    pub(super) fn tensor_bytes(&self) -> usize {
        let own: usize = self.tensors.iter().map(|traced| traced.tensor.data().len()).sum();
        own + self.steps.iter().map(Self::tensor_bytes).sum::<usize>()
    }
}
