//! Runs with inputs and outputs bound beforehand (ONNX Runtime's `IoBinding`): what sessions on a GPU use.
//!
//! Binding an input brings it to the GPU, so that the copy is apart from the run and told as such; outputs are
//! asked for in the CPU's memory. On the CPU nothing is copied, and a plain run is as good, unless outputs have places of
//! their own: they are bound for ONNX Runtime to write to.

use std::{ffi::CString, sync::Arc, time::Instant};

use ort::{
    AsPointer as _,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, NoSelectedOutputs, Session, SessionInputValue},
};
use quintet_engine::{Cancel, InferError, RunTimings, Tensor};

use super::{
    outputs::{Wanted, take},
    run_options::{Stoppable, run_options},
    values,
};

/// The bindings of one session.
pub(super) struct Bound {
    binding: IoBinding,
    options: Option<Arc<Stoppable<NoSelectedOutputs>>>,
    cpu: MemoryInfo<'static>,
    inputs: Vec<CString>,
}

impl Bound {
    pub(super) fn new(session: &Session, inputs: &[String]) -> ort::Result<Self> {
        let name = |name: &String| CString::new(name.as_str()).map_err(ort::Error::wrap);
        Ok(Self {
            binding: session.create_binding()?,
            options: None,
            cpu: MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?,
            inputs: inputs.iter().map(name).collect::<Result<_, _>>()?,
        })
    }

    /// Binds, runs, and takes the outputs that are wanted, in the order of `names`. The inputs come with the values that
    /// view them.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        (inputs, values): (&[Option<Tensor>], &[(&str, SessionInputValue<'_>)]),
        wanted: Wanted<'_>,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        let bound = self.bind(values, wanted);
        timings.copy_in += started.elapsed();
        let outcome =
            bound.map_err(InferError::internal).and_then(|()| self.run_bound(session, inputs, wanted, cancel, timings));
        // Neither the batch nor its answers are held until the next one comes.
        self.binding.clear();
        if cancel.is_cancelled() {
            // Options that were told to stop would stop every later run, too.
            self.options = None;
        }
        outcome
    }

    /// The caller keeps what the inputs view, and the places, alive until the binding is cleared.
    fn bind(&mut self, inputs: &[(&str, SessionInputValue<'_>)], wanted: Wanted<'_>) -> ort::Result<()> {
        // Both are in the model's order; what is left out of `inputs` is not bound.
        let mut names_of_inputs = self.inputs.iter();
        for (name, value) in inputs {
            let Some(name) = names_of_inputs.find(|known| known.to_bytes() == name.as_bytes()) else {
                return Err(ort::Error::new(format!("the model has no input '{name}'")));
            };
            // ort's own `bind_input` would copy what is borrowed.
            // SAFETY: binding, name and value are alive; `run` has the value until it has cleared the binding, and
            // this thread alone has the binding.
            unsafe {
                let status = (ort::api().BindInput)(self.binding.ptr().cast_mut(), name.as_ptr(), value.ptr());
                ort::Error::result_from_status(status)?;
            }
        }
        for (name, place) in wanted.iter() {
            // Which makes its name known to ort, too; a place that is bound then takes over.
            self.binding.bind_output_to_device(name, &self.cpu)?;
            if let Some(placed) = place {
                let (name, value) = (CString::new(name).map_err(ort::Error::wrap)?, values::placed(placed)?);
                // ort's own `bind_output` wants memory of ONNX Runtime's.
                // SAFETY: binding, name and value are alive; the binding has its own handle of the value afterwards,
                // whose memory `run` has until it has cleared the binding.
                unsafe {
                    let binding = self.binding.ptr().cast_mut();
                    let status = (ort::api().BindOutput)(binding, name.as_ptr(), value.ptr());
                    ort::Error::result_from_status(status)?;
                }
            }
        }
        // A copy to a GPU may be under way still, and not in the stream of the run.
        self.binding.synchronize_inputs()
    }

    fn run_bound(
        &mut self,
        session: &mut Session,
        inputs: &[Option<Tensor>],
        wanted: Wanted<'_>,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let options = match &self.options {
            Some(options) => Arc::clone(options),
            None => {
                let options = run_options().map_err(InferError::internal)?;
                Arc::clone(self.options.insert(Arc::new(Stoppable(options))))
            }
        };
        let guard = cancel.on_cancel({
            let options = Arc::clone(&options);
            move || options.stop()
        });
        let started = Instant::now();
        let results = session.run_binding_with_options(&self.binding, &options.0);
        drop(guard);
        let results = results.map_err(InferError::internal)?;
        self.binding.synchronize_outputs().map_err(InferError::internal)?;
        timings.infer = started.elapsed();
        take(results, inputs, wanted, timings)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ort::value::TensorRefMut;
    use proptest::prelude::*;
    use quintet_engine::{BufferPool, DataType, Instance, OutputMemory, OutputPlacement, OutputSet, Shape};
    use quintet_models::passthrough::{DEFAULT_FACTOR, write_scaled};

    use super::{
        super::instance::{
            OnnxInstance,
            tests::{loaded, loaded_from, without_binding},
        },
        *,
    };

    /// Both ways to run the model that gives what it gets.
    fn instances() -> [OnnxInstance; 2] {
        [false, true].map(|bound| {
            let mut session = loaded();
            session.is_bound = bound;
            OnnxInstance::new(session, vec!["x".into()], vec!["y".into()])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_bound_run_answers_as_a_plain_one(lengths in prop::collection::vec(0usize..2000, 1..6)) {
            let [mut plain, mut bound] = instances();
            let mut kept = Vec::new();
            for length in lengths {
                let numbers: Vec<f32> = (0..length).map(|n| n as f32 - 7.5).collect();
                let mut buffer = BufferPool::new(0).take(length * size_of::<f32>());
                buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
                let x = Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap();
                let run = |instance: &mut OnnxInstance| {
                    let mut timings = RunTimings::default();
                    instance.run(&[Some(x.clone())], OutputSet::all(1), &Cancel::new(1), &mut timings).unwrap()
                };
                let (plain, bound) = (run(&mut plain), run(&mut bound));
                prop_assert_eq!(&plain, &bound);
                kept.push((x.clone(), bound));
            }
            // A later run has not written over an earlier answer.
            for (x, answer) in kept {
                prop_assert_eq!(answer, [Some(x)]);
            }
        }
    }

    /// Memory of 80 bytes, all of them 7.
    #[derive(Debug)]
    struct Memory(*mut u64);

    const BYTES: usize = 80;

    impl Memory {
        fn new() -> Arc<Self> {
            Arc::new(Self(Box::into_raw(Box::new([u64::from_ne_bytes([7; 8]); BYTES / 8])).cast()))
        }
    }

    // SAFETY: plain memory that has no other owner.
    unsafe impl Send for Memory {}
    // SAFETY: as above; no test reads while a session writes.
    unsafe impl Sync for Memory {}

    impl AsRef<[u8]> for Memory {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: so many bytes were allocated, and initialised.
            unsafe { std::slice::from_raw_parts(self.0.cast(), BYTES) }
        }
    }

    // SAFETY: the memory is this place's alone, which frees it with itself.
    unsafe impl OutputMemory for Memory {
        fn start(&self) -> *mut u8 {
            self.0.cast()
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: it came from a box of this type.
            drop(unsafe { Box::from_raw(self.0.cast::<[u64; BYTES / 8]>()) });
        }
    }

    #[test]
    fn outputs_are_written_to_their_places() {
        for mut instance in instances() {
            let mut kept = Vec::new();
            for length in [3usize, 0, 20, 5] {
                let numbers: Vec<f32> = (0..length).map(|n| n as f32 - 7.5).collect();
                let data = bytemuck::cast_slice(&numbers);
                let mut buffer = BufferPool::new(0).take(data.len());
                buffer.copy_from_slice(data);
                let x = Some(Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap());
                let mut run = |places: &[OutputPlacement]| {
                    let mut timings = RunTimings::default();
                    instance.run_into(
                        std::slice::from_ref(&x),
                        OutputSet::all(1),
                        places,
                        &Cancel::new(1),
                        &mut timings,
                    )
                };
                let place = |length: usize| {
                    let memory = Memory::new();
                    let shape = Shape::new([length]);
                    let placed =
                        OutputPlacement::new(0, DataType::Fp32, shape, Arc::clone(&memory) as Arc<dyn OutputMemory>);
                    (memory, placed.unwrap())
                };
                let (memory, placed) = place(length);
                let answer = run(&[placed]).unwrap().remove(0);
                assert_eq!(answer, x);
                assert_eq!(answer.unwrap().data().as_ptr(), memory.start().cast_const(), "a view, of {length} numbers");
                let (written, behind) = (*memory).as_ref().split_at(data.len());
                assert_eq!(written, data);
                assert_eq!(behind, vec![7; behind.len()], "nothing else is written");
                kept.push((memory, data.to_vec()));
                // The model gives another shape than it is said to: its answer counts.
                let (_, wrong) = place(if length == 20 { 19 } else { 20 });
                assert_eq!(run(&[wrong]).unwrap(), std::slice::from_ref(&x));
                assert_eq!(run(&[]).unwrap(), std::slice::from_ref(&x));
            }
            // No later run has written there.
            for (memory, data) in kept {
                assert!((*memory).as_ref().starts_with(&data));
            }
        }
    }

    #[test]
    fn an_instance_without_a_binding_answers_elsewhere() {
        let [plain, bound] = instances();
        for mut instance in [without_binding(plain), without_binding(bound)] {
            let memory = Memory::new();
            let place = Arc::clone(&memory) as Arc<dyn OutputMemory>;
            let placed = OutputPlacement::new(0, DataType::Fp32, Shape::new([1]), place).unwrap();
            let mut buffer = BufferPool::new(0).take(size_of::<f32>());
            buffer.copy_from_slice(&1.5f32.to_le_bytes());
            let sent = [Some(Tensor::new(DataType::Fp32, Shape::new([1]), buffer.freeze()).unwrap())];
            let mut timings = RunTimings::default();
            let answer = instance.run_into(&sent, OutputSet::all(1), &[placed], &Cancel::new(1), &mut timings).unwrap();
            assert_eq!(answer, sent);
            assert_eq!((*memory).as_ref(), [7; BYTES]);
        }
    }

    #[test]
    fn an_input_that_is_left_out_has_its_default_both_ways() {
        let root = tempfile::tempdir().unwrap();
        write_scaled(root.path()).unwrap();
        let tensor = |number: f32| {
            Tensor::new(DataType::Fp32, Shape::new([1, 1]), Bytes::copy_from_slice(&number.to_le_bytes())).unwrap()
        };
        for is_bound in [false, true] {
            let mut session = loaded_from(&root.path().join("scaled/1/model.onnx"));
            let inputs: Vec<_> = session.inputs.iter().map(|input| (input.name.as_str(), input.optional)).collect();
            assert_eq!(inputs, [("x", false), ("factor", true)]);
            session.is_bound = is_bound;
            // A configuration may list them in any order.
            let mut instance = OnnxInstance::new(session, vec!["factor".into(), "x".into()], vec!["y".into()]);
            for factor in [None, Some(5.0), None, Some(7.0)] {
                let inputs = [factor.map(tensor), Some(tensor(3.0))];
                let answer =
                    instance.run(&inputs, OutputSet::all(1), &Cancel::new(1), &mut RunTimings::default()).unwrap();
                assert_eq!(answer, [Some(tensor(3.0 * factor.unwrap_or(DEFAULT_FACTOR)))], "{is_bound} {factor:?}");
            }
        }
    }

    #[test]
    fn what_is_bound_is_read_in_place() {
        let mut session = loaded().session;
        let names = ["y".to_owned()];
        let mut bound = Bound::new(&session, &["x".to_owned()]).unwrap();
        let mut numbers = [1.0f32, 2.0];
        let start = numbers.as_mut_ptr();
        let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        // SAFETY: two numbers in the CPU's memory that outlive the binding.
        let x = unsafe { TensorRefMut::<f32>::from_raw(cpu, start.cast(), [2usize].into()) }.unwrap();
        let wanted = Wanted { names: &names, set: OutputSet::all(1), places: &[] };
        bound.bind(&[("x", x.into())], wanted).unwrap();
        // SAFETY: the second number; nothing reads it meanwhile.
        unsafe { start.add(1).write(3.0) };
        let answers = bound.run_bound(&mut session, &[], wanted, &Cancel::new(1), &mut RunTimings::default()).unwrap();
        let answer = bytemuck::pod_collect_to_vec::<u8, f32>(answers[0].as_ref().unwrap().data());
        assert_eq!(answer, [1.0, 3.0]);
    }
}
