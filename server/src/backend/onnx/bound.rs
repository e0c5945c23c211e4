//! Runs with inputs and outputs bound before the run (ONNX Runtime's `IoBinding`), for sessions on a GPU.
//!
//! Binding an input copies it to the GPU, so that the copy is timed apart from the run; outputs are requested in CPU
//! memory. On the CPU nothing is copied, and a plain run is as fast, unless outputs have placements: they are bound so
//! that ONNX Runtime writes to them.

use std::{
    ffi::{CStr, CString},
    sync::Arc,
    time::Instant,
};

use ort::{
    AsPointer as _,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, RunOptions, Session, SessionInputValue},
};
use quintet_engine::{InferError, RunTimings, Tensor};

use super::{
    handle::Handle,
    outputs::{Run, take},
    run_options::{run_options, stop},
    values,
};
use crate::backend::run_error;

/// The bindings of one session.
pub(super) struct Bound {
    binding: IoBinding,
    options: Option<Arc<RunOptions>>,
    cpu: MemoryInfo<'static>,
}

impl Bound {
    pub(super) fn new(session: &Session) -> ort::Result<Self> {
        Ok(Self {
            binding: session.create_binding()?,
            options: None,
            cpu: MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?,
        })
    }

    /// Binds and runs. Returns one entry for each output of the instance.
    pub(super) fn run(
        &mut self,
        session: &mut Handle,
        inputs: &[(&CStr, SessionInputValue<'_>)],
        run: Run<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        let bound = self.bind(inputs, run);
        timings.copy_in += started.elapsed();
        let outcome = bound.map_err(run_error).and_then(|()| self.run_bound(session, run, timings));
        // Releases the batch and its outputs, which would otherwise be kept until the next run.
        self.binding.clear();
        if run.request.cancel.is_cancelled() {
            // The options are terminated, and would stop every later run, too.
            self.options = None;
        }
        outcome
    }

    /// The caller keeps the inputs' memory and the placements alive until the binding is cleared.
    fn bind(&mut self, inputs: &[(&CStr, SessionInputValue<'_>)], run: Run<'_>) -> ort::Result<()> {
        for (name, value) in inputs {
            // ort's own `bind_input` would copy borrowed memory.
            // SAFETY: binding, name and value are alive; the caller of `run` owns the value until `run` has cleared the
            // binding, and only this thread uses the binding.
            unsafe {
                let status = (ort::api().BindInput)(self.binding.ptr().cast_mut(), name.as_ptr(), value.ptr());
                ort::Error::result_from_status(status)?;
            }
        }
        for (name, placement) in run.outputs() {
            // This also registers the name with ort; binding a placement then overrides it.
            self.binding.bind_output_to_device(name, &self.cpu)?;
            if let Some(placement) = placement {
                let (name, value) = (CString::new(name).map_err(ort::Error::wrap)?, values::placed(placement)?);
                // ort's own `bind_output` needs memory of ONNX Runtime.
                // SAFETY: binding, name and value are alive; the binding then has its own handle of the value, whose
                // memory the placement owns, which the caller of `run` holds until `run` has cleared the binding.
                unsafe {
                    let binding = self.binding.ptr().cast_mut();
                    let status = (ort::api().BindOutput)(binding, name.as_ptr(), value.ptr());
                    ort::Error::result_from_status(status)?;
                }
            }
        }
        // A copy to a GPU may still be running, in another stream than the run's.
        self.binding.synchronize_inputs()
    }

    fn run_bound(
        &mut self,
        session: &mut Handle,
        run: Run<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let options = match &self.options {
            Some(options) => Arc::clone(options),
            None => {
                let options = run_options().map_err(InferError::internal)?;
                Arc::clone(self.options.insert(Arc::new(options)))
            }
        };
        let guard = run.request.cancel.on_cancel({
            let options = Arc::clone(&options);
            move || stop(&options)
        });
        let started = Instant::now();
        let results = session.run_bound(&self.binding, &options);
        drop(guard);
        let results = results.map_err(run_error)?;
        self.binding.synchronize_outputs().map_err(run_error)?;
        timings.infer = started.elapsed();
        take(results, run, timings)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ort::value::TensorRefMut;
    use proptest::prelude::*;
    use quintet_engine::{BufferPool, Cancel, DataType, OutputMemory, OutputPlacement, OutputSet, RunRequest, Shape};
    use quintet_models::passthrough::{DEFAULT_FACTOR, write_scaled};

    use super::{
        super::instance::{
            OnnxInstance,
            tests::{loaded, loaded_from, run, without_binding},
        },
        *,
    };

    /// The identity model with plain and with bound runs.
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
        fn bound_runs_give_the_outputs_of_plain_runs(lengths in prop::collection::vec(0usize..2000, 1..6)) {
            let [mut plain, mut bound] = instances();
            let mut kept = Vec::new();
            for length in lengths {
                let numbers: Vec<f32> = (0..length).map(|n| n as f32 - 7.5).collect();
                let mut buffer = BufferPool::new(0).take(length * size_of::<f32>());
                buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
                let x = Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap();
                let run = |instance: &mut OnnxInstance| run(instance, &[Some(x.clone())], &[]).unwrap();
                let (plain, bound) = (run(&mut plain), run(&mut bound));
                prop_assert_eq!(&plain, &bound);
                kept.push((x.clone(), bound));
            }
            // No later run overwrites an earlier output.
            for (x, answer) in kept {
                prop_assert_eq!(answer, [Some(x)]);
            }
        }
    }

    /// 80 bytes, each of them 7.
    #[derive(Debug)]
    struct Memory(*mut u64);

    const BYTES: usize = 80;

    impl Memory {
        fn new() -> Arc<Self> {
            Arc::new(Self(Box::into_raw(Box::new([u64::from_ne_bytes([7; 8]); BYTES / 8])).cast()))
        }
    }

    // SAFETY: heap memory that has no other owner.
    unsafe impl Send for Memory {}
    // SAFETY: as above; no test reads while a session writes.
    unsafe impl Sync for Memory {}

    impl AsRef<[u8]> for Memory {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: this many bytes were allocated and initialised, and live as long as `self`.
            unsafe { std::slice::from_raw_parts(self.0.cast(), BYTES) }
        }
    }

    // SAFETY: this value is the only owner of the memory, and frees it when it is dropped.
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
    fn outputs_are_written_to_their_placements() {
        for mut instance in instances() {
            let mut kept = Vec::new();
            for length in [3usize, 0, 20, 5] {
                let numbers: Vec<f32> = (0..length).map(|n| n as f32 - 7.5).collect();
                let data = bytemuck::cast_slice(&numbers);
                let mut buffer = BufferPool::new(0).take(data.len());
                buffer.copy_from_slice(data);
                let x = Some(Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap());
                let mut run = |placements: &[OutputPlacement]| run(&mut instance, std::slice::from_ref(&x), placements);
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
                let (written, after) = (*memory).as_ref().split_at(data.len());
                assert_eq!(written, data);
                assert_eq!(after, vec![7; after.len()], "nothing else is written");
                kept.push((memory, data.to_vec()));
                // The model gives another shape than the placement's: the model's output is returned.
                let (_, wrong) = place(if length == 20 { 19 } else { 20 });
                assert_eq!(run(&[wrong]).unwrap(), std::slice::from_ref(&x));
                assert_eq!(run(&[]).unwrap(), std::slice::from_ref(&x));
            }
            // No later run has written to the memory.
            for (memory, data) in kept {
                assert!((*memory).as_ref().starts_with(&data));
            }
        }
    }

    #[test]
    fn an_instance_without_a_binding_ignores_placements() {
        let [plain, bound] = instances();
        for mut instance in [without_binding(plain), without_binding(bound)] {
            let memory = Memory::new();
            let place = Arc::clone(&memory) as Arc<dyn OutputMemory>;
            let placed = OutputPlacement::new(0, DataType::Fp32, Shape::new([1]), place).unwrap();
            let mut buffer = BufferPool::new(0).take(size_of::<f32>());
            buffer.copy_from_slice(&1.5f32.to_le_bytes());
            let sent = [Some(Tensor::new(DataType::Fp32, Shape::new([1]), buffer.freeze()).unwrap())];
            let answer = run(&mut instance, &sent, &[placed]).unwrap();
            assert_eq!(answer, sent);
            assert_eq!((*memory).as_ref(), [7; BYTES]);
        }
    }

    #[test]
    fn an_omitted_input_has_its_default_in_plain_and_bound_runs() {
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
                let answer = run(&mut instance, &inputs, &[]).unwrap();
                assert_eq!(answer, [Some(tensor(3.0 * factor.unwrap_or(DEFAULT_FACTOR)))], "{is_bound} {factor:?}");
            }
        }
    }

    #[test]
    fn bound_inputs_are_read_in_place() {
        let mut session = loaded().session;
        let names = ["y".to_owned()];
        let mut bound = Bound::new(&session).unwrap();
        let mut numbers = [1.0f32, 2.0];
        let start = numbers.as_mut_ptr();
        let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        // SAFETY: two numbers in the CPU's memory that outlive the binding.
        let x = unsafe { TensorRefMut::<f32>::from_raw(cpu, start.cast(), [2usize].into()) }.unwrap();
        let cancel = Cancel::new(1);
        let request = RunRequest { inputs: &[], outputs: OutputSet::all(1), placements: &[], cancel: &cancel };
        let run = Run { output_names: &names, request };
        bound.bind(&[(c"x", x.into())], run).unwrap();
        // SAFETY: the second number; nothing reads it meanwhile.
        unsafe { start.add(1).write(3.0) };
        let answers = bound.run_bound(&mut session, run, &mut RunTimings::default()).unwrap();
        let answer = bytemuck::pod_collect_to_vec::<u8, f32>(answers[0].as_ref().unwrap().data());
        assert_eq!(answer, [1.0, 3.0]);
    }
}
