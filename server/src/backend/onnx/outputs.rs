//! A run with the names of its outputs, and how its results become tensors.

use std::time::Instant;

use ort::value::DynValue;
use quintet_engine::{InferError, OutputPlacement, RunRequest, RunTimings, Tensor};

use super::values::{self, Borrowed};

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

/// The results, those of the requested outputs in their order, as one entry for each output of the instance, `None` if it
/// was not requested. An output that lies in an input's memory is copied.
pub(super) fn take(
    results: Vec<DynValue>,
    run: Run<'_>,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    let started = Instant::now();
    let RunRequest { inputs, placements, .. } = run.request;
    let borrowed = Borrowed { inputs, placements };
    let mut outputs =
        run.outputs().zip(results).map(|((name, placement), value)| values::output(name, value, placement, borrowed));
    let all = (0..run.output_names.len()).map(|index| match run.request.outputs.contains(index) {
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

    use quintet_engine::{BufferPool, Cancel, DataType, Instance as _, OutputMemory, OutputSet, Shape};
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
            let (inputs, cancel) = ([Some(x)], Cancel::new(1));
            let request = RunRequest { inputs: &inputs, outputs: all, placements: &places, cancel: &cancel };
            let answers = instance.run(request, &mut timings).unwrap();
            drop(inputs);
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
