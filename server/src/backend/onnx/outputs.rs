//! The outputs that one run is to give.

use std::time::Instant;

use ort::session::SessionOutputs;
use quintet_engine::{InferError, OutputPlacement, OutputSet, RunTimings, Tensor};

use super::values;

/// The outputs of one run.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The names of all outputs of the instance.
    pub(super) names: &'a [String],
    pub(super) set: OutputSet,
    /// Where some of them go.
    pub(super) places: &'a [OutputPlacement],
}

impl<'a> Wanted<'a> {
    /// Each wanted output's name and place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a OutputPlacement>)> {
        let Self { names, set, places } = *self;
        let wanted = names.iter().enumerate().filter(move |(index, _)| set.contains(*index));
        wanted.map(|(index, name)| (name.as_str(), places.iter().find(|placed| placed.index == index)))
    }
}

/// One entry for each of the names, `None` where it is not wanted.
pub(super) fn take(
    mut results: SessionOutputs<'_>,
    wanted: Wanted<'_>,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    let started = Instant::now();
    let mut outputs = wanted.iter().map(|(name, place)| {
        let value = results
            .remove(name)
            .ok_or_else(|| InferError::internal(format_args!("the model gave no output '{name}'")))?;
        match place {
            Some(placed) => placed.tensor(),
            None => values::output(name, value),
        }
    });
    let all = (0..wanted.names.len()).map(|index| match wanted.set.contains(index) {
        true => outputs.next().transpose(),
        false => Ok(None),
    });
    let all = all.collect();
    timings.copy_out = started.elapsed();
    all
}
