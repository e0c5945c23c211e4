//! The outputs that one run is to give.

use std::time::Instant;

use ort::session::SessionOutputs;
use quintet_engine::{InferError, OutputPlacement, OutputSet, RunTimings, Tensor};

use super::values::{self, Lent};

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

/// One entry for each of the names, `None` where it is not wanted. `inputs` are those of the run: an output that is one
/// of them is copied.
pub(super) fn take(
    mut results: SessionOutputs<'_>,
    inputs: &[Option<Tensor>],
    wanted: Wanted<'_>,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    let started = Instant::now();
    let mut outputs = wanted.iter().map(|(name, place)| {
        let value = results
            .remove(name)
            .ok_or_else(|| InferError::internal(format_args!("the model gave no output '{name}'")))?;
        values::output(name, value, place, Lent { inputs, places: wanted.places })
    });
    let all = (0..wanted.names.len()).map(|index| match wanted.set.contains(index) {
        true => outputs.next().transpose(),
        false => Ok(None),
    });
    let all = all.collect();
    timings.copy_out = started.elapsed();
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quintet_engine::{BufferPool, Cancel, DataType, Instance, OutputMemory, Shape};
    use quintet_models::passthrough::{NEGATED, SAME, write_aliases};

    use super::*;
    use crate::backend::onnx::instance::{OnnxInstance, tests::loaded_from};

    const LENGTH: usize = 4096;

    /// Memory of a client that outputs may be written to.
    #[derive(Debug)]
    struct Shared(Box<[u64]>);

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self(vec![0; LENGTH / 2].into()))
        }
    }

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    // SAFETY: `Box` owns the memory for as long as the value lives; no test reads while a session writes.
    unsafe impl OutputMemory for Shared {
        fn start(&self) -> *mut u8 {
            self.0.as_ptr().cast_mut().cast()
        }
    }

    #[test]
    fn an_output_that_is_an_input_survives_the_next_use_of_the_inputs_memory() {
        let root = tempfile::tempdir().unwrap();
        write_aliases(root.path(), "", false).unwrap();
        let names: Vec<String> = SAME.iter().chain(&NEGATED).map(|&name| name.to_owned()).collect();
        let pool = BufferPool::new(1 << 20);
        for (is_bound, is_placed) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut session = loaded_from(&root.path().join("aliases/1/model.onnx"));
            session.is_bound = is_bound;
            let mut instance = OnnxInstance::new(session, vec!["x".into()], names.clone());
            let memory: Vec<_> = names.iter().map(|_| Shared::new()).collect();
            // Two of each kind are placed, and the others are not.
            let place = |index: usize| {
                let memory = Arc::clone(&memory[index]) as Arc<dyn OutputMemory>;
                OutputPlacement::new(index, DataType::Fp32, Shape::new([1, LENGTH]), memory).unwrap()
            };
            let places: Vec<_> = if is_placed { [0, 1, 5, 6].map(place).into() } else { Vec::new() };
            let mut buffer = pool.take(LENGTH * 4);
            let address = buffer.as_ptr();
            buffer.copy_from_slice(bytemuck::cast_slice(&[1.5f32; LENGTH]));
            let x = Tensor::new(DataType::Fp32, Shape::new([1, LENGTH]), buffer.freeze()).unwrap();
            let mut timings = RunTimings::default();
            let all = OutputSet::all(names.len());
            let answers = instance.run_into(&[Some(x)], all, &places, &Cancel::new(1), &mut timings).unwrap();
            let mut next = pool.take(LENGTH * 4);
            assert_eq!(next.as_ptr(), address, "the input's memory is another request's now");
            next.fill(9);
            for (index, (name, answer)) in names.iter().zip(&answers).enumerate() {
                let expected = if SAME.contains(&name.as_str()) { 1.5f32 } else { -1.5 };
                let data: Vec<f32> = bytemuck::pod_collect_to_vec(answer.as_ref().unwrap().data());
                assert_eq!(data, [expected; LENGTH], "{name}, bound: {is_bound}, placed: {is_placed}");
                // Other outputs share no memory with a place, which is the client's.
                let is_in = |place: &OutputPlacement| {
                    (*place.memory).as_ref().as_ptr_range().contains(&answer.as_ref().unwrap().data().as_ptr())
                };
                let others = places.iter().filter(|place| place.index != index);
                assert_eq!(others.filter(|place| is_in(place)).count(), 0, "{name}");
            }
        }
    }
}
