//! The result of one request about images, before it is written as JSON.

use std::sync::Arc;

use quintet_engine::{Model, StageTimings, Tensor};

/// What the model said about the images of one request.
pub(super) struct Outcome {
    /// The model.
    pub(super) model: Arc<Model>,
    /// Index of the output asked for.
    pub(super) output: usize,
    /// That output, batch by batch, in the images' order: how many images, and a row for each.
    pub(super) batches: Vec<(usize, Tensor)>,
    /// Stage times so far.
    pub(super) timings: StageTimings,
}
