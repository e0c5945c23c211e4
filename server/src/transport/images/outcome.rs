//! The model's outputs for one request with images, before they are written as JSON.

use std::sync::Arc;

use quintet_engine::{Model, StageTimings, Tensor};

/// The model's outputs for the images of one request.
pub(super) struct Outcome {
    /// The model.
    pub(super) model: Arc<Model>,
    /// The index of the requested output in the model.
    pub(super) output: usize,
    /// That output for each batch, in the order of the images: the number of images, and a row for each image.
    pub(super) batches: Vec<(usize, Tensor)>,
    /// Stage times so far.
    pub(super) timings: StageTimings,
}
