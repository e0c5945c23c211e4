//! A run with the names of its outputs, and how its results become tensors.

use std::time::Instant;

use ort::session::SessionOutputs;
use quintet_engine::{InferError, OutputPlacement, RunRequest, RunTimings, Tensor};

use super::values;

/// One run of an instance.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// The names of all outputs of the instance.
    pub(super) output_names: &'a [String],
    pub(super) request: RunRequest<'a>,
}

impl<'a> Run<'a> {
    /// Each requested output's name and placement.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&'a str, Option<&'a OutputPlacement>)> {
        let RunRequest { outputs, placements, .. } = self.request;
        let requested = self.output_names.iter().enumerate().filter(move |(index, _)| outputs.contains(*index));
        requested.map(|(index, name)| (name.as_str(), placements.iter().find(|placement| placement.index == index)))
    }
}

/// The results as one entry for each output of the instance, `None` if it was not requested.
pub(super) fn take(
    mut results: SessionOutputs<'_>,
    run: Run<'_>,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    let started = Instant::now();
    let mut outputs = run.outputs().map(|(name, placement)| {
        let value = results
            .remove(name)
            .ok_or_else(|| InferError::internal(format_args!("the model gave no output '{name}'")))?;
        match placement {
            Some(placement) => placement.tensor(),
            None => values::output(name, value),
        }
    });
    let all = (0..run.output_names.len()).map(|index| match run.request.outputs.contains(index) {
        true => outputs.next().transpose(),
        false => Ok(None),
    });
    let all = all.collect();
    timings.copy_out = started.elapsed();
    all
}
