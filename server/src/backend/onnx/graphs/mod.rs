//! CUDA graphs (`enable_cuda_graph`): what a run has the GPU do is recorded once for each shape of the inputs, and replayed
//! for later batches of that shape, which saves launching each kernel.
//!
//! A replay reads and writes where the recorded run did, so a graph has tensors of its own on the GPU, to which inputs
//! are copied and from which outputs are. ONNX Runtime replays whatever it recorded, without a look at what is bound:
//! a graph is kept only if its answers are those of plain runs, on two inputs of which one was not there when it was
//! recorded. Its CUDA provider keeps the graphs for the thread that recorded them, which the instance's is.
//!
//! None of this was run on a GPU yet. The tests run it on the CPU, where each replay is a run.

mod check;
mod device;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ort::{
    memory::Allocator,
    session::{IoBinding, RunOptions, Session, SessionInputValue},
    value::{DynTensor, DynValue},
};
use quintet_engine::{DataType, InferError, OutputSet, RunTimings, Shape, Tensor};
use quintet_onnxruntime::one_line;

use self::check::{check, probe};
pub(super) use self::device::Device;
use super::{instance::Wanted, values};
use crate::backend::gpu_work;

/// ONNX Runtime's run option that names the graph to record or replay.
const GRAPH: &str = "gpu_graph_id";

/// The value of [`GRAPH`] for a run that has nothing to do with graphs.
const NO_GRAPH: &str = "-1";

/// Shapes that an instance records graphs for at most; each takes memory of the GPU.
const MAX_GRAPHS: usize = 32;

/// How long a batch of a new shape waits for all other work on GPUs to end, which holds up what comes meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long after a wait in vain the next one may be.
const PAUSE: Duration = Duration::from_secs(1);

/// Options of a run that neither records nor replays.
pub(super) fn run_options() -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set(GRAPH, NO_GRAPH)?;
    Ok(options)
}

/// The graphs of one session.
pub(super) struct Graphs {
    device: Device,
    allocator: Allocator,
    patience: Duration,
    /// When other work may be held up again.
    not_before: Instant,
    met: Vec<Met>,
}

/// Inputs that came, and the graph for them unless it cannot be had.
struct Met {
    inputs: Vec<(DataType, Shape)>,
    graph: Option<Graph>,
}

impl Met {
    fn is(&self, given: &[Option<Tensor>]) -> bool {
        let is_one = |((data_type, shape), given): (&(DataType, Shape), &Option<Tensor>)| {
            given.as_ref().is_some_and(|it| it.data_type() == *data_type && it.shape() == shape)
        };
        self.inputs.len() == given.len() && self.inputs.iter().zip(given).all(is_one)
    }
}

impl Graphs {
    pub(super) fn new(device: Device, session: &Session) -> ort::Result<Self> {
        let allocator = Allocator::new(session, device.memory.clone())?;
        Ok(Self { device, allocator, patience: PATIENCE, not_before: Instant::now(), met: Vec::new() })
    }

    /// The graph for these inputs, which is recorded if they are the first of their shapes; `names` are the instance's
    /// inputs and outputs. `None` where they can be run only.
    pub(super) fn of(
        &mut self,
        session: &mut Session,
        names: (&[String], &[String]),
        given: &[Option<Tensor>],
    ) -> Option<(&mut Graph, &Device)> {
        let index = match self.met.iter().position(|met| met.is(given)) {
            Some(index) => index,
            None => {
                let met = self.meet(session, names, given)?;
                self.met.push(met);
                self.met.len() - 1
            }
        };
        let graph = self.met.get_mut(index)?.graph.as_mut()?;
        Some((graph, &self.device))
    }

    /// Records the graph of new inputs, if it is their time.
    fn meet(&mut self, session: &mut Session, names: (&[String], &[String]), given: &[Option<Tensor>]) -> Option<Met> {
        if self.met.len() == MAX_GRAPHS || Instant::now() < self.not_before {
            return None;
        }
        // An input that is left out, or has no fixed size, has no place.
        let fixed = |tensor: &Tensor| tensor.data_type().size().map(|_| (tensor.data_type(), tensor.shape().clone()));
        let inputs: Vec<_> = given.iter().map(|given| given.as_ref().and_then(fixed)).collect::<Option<_>>()?;
        let Some(alone) = gpu_work::alone(self.patience) else {
            self.not_before = Instant::now() + PAUSE;
            return None;
        };
        let recorded = Graph::record(self.met.len() + 1, session, names, &inputs, (&self.device, &self.allocator));
        drop(alone);
        let shapes: Vec<_> = inputs.iter().map(|(_, shape)| shape.dims()).collect();
        match &recorded {
            Ok(_) => tracing::info!(?shapes, "CUDA graph recorded"),
            Err(error) => {
                let reason = one_line(&error.to_string());
                tracing::warn!(?shapes, reason, "no CUDA graph; such batches are run");
            }
        }
        Some(Met { inputs, graph: recorded.ok() })
    }
}

/// What was recorded for inputs of one shape.
pub(super) struct Graph {
    options: RunOptions,
    binding: IoBinding,
    inputs: Vec<DynValue>,
    /// With each one's type and shape.
    outputs: Vec<(DynValue, DataType, Shape)>,
}

// SAFETY: ort withholds `Send` from tensors because they may be views of somebody's memory; these own theirs, which
// ONNX Runtime's allocators free on any thread. One thread at a time has the graph.
unsafe impl Send for Graph {}

impl Graph {
    /// Records and checks. Other work on GPUs is not under way.
    fn record(
        id: usize,
        session: &mut Session,
        (inputs, outputs): (&[String], &[String]),
        shapes: &[(DataType, Shape)],
        (device, allocator): (&Device, &Allocator),
    ) -> anyhow::Result<Self> {
        let probe = |is_marked: bool| -> anyhow::Result<Vec<Tensor>> {
            shapes.iter().map(|(data_type, shape)| probe(*data_type, shape, is_marked)).collect()
        };
        let probes = [probe(false)?, probe(true)?];
        let run = |session: &mut Session, probe: &[Tensor]| run(session, (inputs, outputs), probe);
        let expected = [run(session, &probes[0])?, run(session, &probes[1])?];
        let mut options = RunOptions::new()?;
        options.set(GRAPH, id.to_string())?;
        let mut graph = Self { options, binding: session.create_binding()?, inputs: vec![], outputs: vec![] };
        for (name, (data_type, shape)) in inputs.iter().zip(shapes) {
            let tensor = values::unset(allocator, *data_type, shape)?;
            graph.binding.bind_input(name, &tensor)?;
            graph.inputs.push(tensor.into_dyn());
        }
        for (name, tensor) in outputs.iter().zip(&expected[0]) {
            let (data_type, shape) = (tensor.data_type(), tensor.shape().clone());
            let mut tensor = values::unset(allocator, data_type, &shape)?;
            graph.binding.bind_output(name, &mut tensor)?;
            graph.outputs.push((tensor.into_dyn(), data_type, shape));
        }
        check(&probes, &expected, |probe| {
            let given: Vec<_> = probe.iter().cloned().map(Some).collect();
            let wanted = Wanted { names: outputs, set: OutputSet::all(outputs.len()), places: &[] };
            Ok(graph.replay(session, device, &given, wanted, &mut RunTimings::default())?)
        })?;
        Ok(graph)
    }

    /// One entry for each of the names, `None` where it is not wanted.
    pub(super) fn replay(
        &mut self,
        session: &mut Session,
        device: &Device,
        given: &[Option<Tensor>],
        wanted: Wanted<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        let given: Vec<SessionInputValue<'_>> =
            given.iter().flatten().map(values::input).collect::<Result<_, InferError>>()?;
        let pairs = given.iter().map(|value| &**value).zip(&self.inputs);
        device.copy(pairs).map_err(InferError::internal)?;
        timings.copy_in = started.elapsed();
        let started = Instant::now();
        drop(session.run_binding_with_options(&self.binding, &self.options).map_err(InferError::internal)?);
        timings.infer = started.elapsed();
        let started = Instant::now();
        let answers = self.answers(device, wanted);
        timings.copy_out = started.elapsed();
        answers
    }

    fn answers(&self, device: &Device, wanted: Wanted<'_>) -> Result<Vec<Option<Tensor>>, InferError> {
        let made = self.outputs.iter().enumerate().map(|(index, (_, data_type, shape))| {
            let made = wanted.set.contains(index).then(|| values::unset(&Allocator::default(), *data_type, shape));
            Ok(made.transpose()?.map(DynTensor::into_dyn))
        });
        let made = made.collect::<ort::Result<Vec<_>>>().map_err(InferError::internal)?;
        let pairs = self.outputs.iter().zip(&made).filter_map(|((from, ..), to)| Some((from, to.as_ref()?)));
        device.copy(pairs).map_err(InferError::internal)?;
        let named = wanted.names.iter().zip(made);
        named.map(|(name, made)| made.map(|value| values::output(name, value)).transpose()).collect()
    }
}

/// A run that has nothing to do with graphs.
fn run(
    session: &mut Session,
    (inputs, outputs): (&[String], &[String]),
    given: &[Tensor],
) -> anyhow::Result<Vec<Tensor>> {
    let options = run_options()?;
    let values = inputs.iter().zip(given).map(|(name, tensor)| Ok((name.as_str(), values::input(tensor)?)));
    let values = values.collect::<Result<Vec<_>, InferError>>()?;
    let mut results = session.run_with_options(values, &options)?;
    let tensors = outputs.iter().map(|name| {
        let value = results.remove(name).with_context(|| format!("the model gave no output '{name}'"))?;
        let tensor = values::output(name, value)?;
        ensure!(tensor.data_type().size().is_some(), "output '{name}' has no fixed size");
        Ok(tensor)
    });
    tensors.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::ptr;

    use ort::{
        environment::Environment,
        memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
        sys::OrtValue,
    };
    use proptest::prelude::*;
    use quintet_engine::{BufferPool, Cancel, Instance};
    use quintet_models::passthrough::write_scaled;

    use super::{
        super::instance::{
            OnnxInstance,
            tests::{loaded, loaded_from},
        },
        device::{CopyTensors, copy_tensors},
        *,
    };
    use crate::backend::{gpu_work::RECORDING, onnx::LoadedSession};

    /// An instance as on a GPU, but that its graphs are on the CPU.
    fn recording(mut session: LoadedSession, inputs: &[&str]) -> OnnxInstance {
        session.is_bound = true;
        session.graphs = Some(on_cpu(copy_on_cpu));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut instance = session.instance(names(inputs), names(&["y"]));
        instance.graphs.as_mut().unwrap().patience = Duration::from_secs(60);
        instance
    }

    /// What a device's provider would do.
    unsafe fn copy_on_cpu(_: &Environment, from: &[*const OrtValue], to: &mut [*const OrtValue]) -> ort::Result<()> {
        let api = ort::api();
        let start = |tensor: *const OrtValue| {
            let mut start = ptr::null_mut();
            // SAFETY: a live tensor, and a place for the answer.
            unsafe { ort::Error::result_from_status((api.GetTensorMutableData)(tensor.cast_mut(), &mut start)) }?;
            Ok::<_, ort::Error>(start.cast::<u8>())
        };
        let bytes = |tensor: *const OrtValue| {
            let mut bytes = 0;
            // SAFETY: as above.
            unsafe { ort::Error::result_from_status((api.GetTensorSizeInBytes)(tensor, &mut bytes)) }?;
            Ok::<_, ort::Error>(bytes)
        };
        assert_eq!(from.len(), to.len());
        for (&from, &to) in from.iter().zip(to.iter()) {
            assert_eq!(bytes(from)?, bytes(to)?);
            // SAFETY: both have so many bytes, and lie apart.
            unsafe { ptr::copy_nonoverlapping(start(from)?, start(to)?, bytes(to)?) };
        }
        Ok(())
    }

    fn on_cpu(copy: CopyTensors) -> Device {
        let threads = quintet_onnxruntime::ThreadPool { intra_op_threads: 1, spin: false };
        let library = quintet_onnxruntime::load(None, threads).unwrap();
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        Device { environment: library.environment.clone(), memory, copy }
    }

    fn graphs(instance: &OnnxInstance) -> Vec<bool> {
        instance.graphs.as_ref().unwrap().met.iter().map(|met| met.graph.is_some()).collect()
    }

    pub(in super::super) fn numbers_from(start: f32, length: usize) -> Tensor {
        let numbers: Vec<f32> = (0..length).map(|n| start + n as f32).collect();
        let mut buffer = BufferPool::new(0).take(length * size_of::<f32>());
        buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
        Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap()
    }

    fn answer(instance: &mut OnnxInstance, inputs: &[Option<Tensor>]) -> Option<Tensor> {
        let all = OutputSet::all(1);
        instance.run(inputs, all, &Cancel::new(1), &mut RunTimings::default()).unwrap().remove(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_replay_answers_as_a_run(lengths in prop::collection::vec(2usize..6, 1..20)) {
            let _alone = RECORDING.lock();
            let mut instance = recording(loaded(), &["x"]);
            let mut kept = Vec::new();
            for (index, &length) in lengths.iter().enumerate() {
                let x = Some(numbers_from(index as f32, length));
                let y = answer(&mut instance, std::slice::from_ref(&x));
                prop_assert_eq!(&y, &x);
                kept.push((x, y));
            }
            let distinct: std::collections::HashSet<_> = lengths.iter().collect();
            prop_assert_eq!(graphs(&instance), vec![true; distinct.len()]);
            // A later replay has not written over an earlier answer.
            for (x, y) in kept {
                prop_assert_eq!(x, y);
            }
        }
    }

    #[test]
    fn a_graph_has_tensors_of_its_own() {
        let _alone = RECORDING.lock();
        let mut instance = recording(loaded(), &["x"]);
        let x = numbers_from(1.0, 3);
        answer(&mut instance, &[Some(x.clone())]);
        let inside = |instance: &OnnxInstance| {
            let graph = instance.graphs.as_ref().unwrap().met[0].graph.as_ref().unwrap();
            let read = |value: &DynValue| value.try_extract_tensor::<f32>().unwrap().1.to_vec();
            [read(&graph.inputs[0]), read(&graph.outputs[0].0)]
        };
        assert_eq!(inside(&instance), [[1.0, 2.0, 3.0]; 2]);
        answer(&mut instance, &[Some(numbers_from(5.0, 3))]);
        assert_eq!(inside(&instance), [[5.0, 6.0, 7.0]; 2]);
    }

    #[test]
    fn where_nothing_copies_nothing_is_recorded() {
        let _alone = RECORDING.lock();
        let device = on_cpu(copy_tensors);
        let value = |tensor: &Tensor| values::unset(&Allocator::default(), tensor.data_type(), tensor.shape()).unwrap();
        let (from, to) = (value(&numbers_from(1.0, 3)).into_dyn(), value(&numbers_from(1.0, 3)).into_dyn());
        let error = device.copy([(&from, &to)].into_iter()).unwrap_err();
        assert_eq!(
            error.message(),
            "Data transfer implementation between source and destination device was not found."
        );
        let mut instance = recording(loaded(), &["x"]);
        instance.graphs.as_mut().unwrap().device = device;
        let x = numbers_from(1.0, 3);
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
        assert_eq!(graphs(&instance), [false]);
    }

    #[test]
    fn what_cannot_be_recorded_is_run() {
        let _alone = RECORDING.lock();
        let mut instance = recording(loaded(), &["x"]);
        // Where there is nothing to tell probes apart by.
        for length in [0, 1, 0] {
            let x = numbers_from(3.0, length);
            assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
        }
        assert_eq!(graphs(&instance), [false, true]);

        let mut instance = recording(loaded(), &["x"]);
        for length in 1..MAX_GRAPHS + 10 {
            let x = numbers_from(3.0, length);
            assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
        }
        assert_eq!(graphs(&instance), [true; MAX_GRAPHS]);
    }

    #[test]
    fn an_input_that_is_left_out_is_run() {
        let _alone = RECORDING.lock();
        let root = tempfile::tempdir().unwrap();
        write_scaled(root.path()).unwrap();
        let mut instance = recording(loaded_from(&root.path().join("scaled/1/model.onnx")), &["x", "factor"]);
        let tensor = |numbers: [f32; 2]| {
            let mut buffer = BufferPool::new(0).take(8);
            buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
            Tensor::new(DataType::Fp32, Shape::new([2, 1]), buffer.freeze()).unwrap()
        };
        let factor = quintet_models::passthrough::DEFAULT_FACTOR;
        for _ in 0..2 {
            assert_eq!(answer(&mut instance, &[Some(tensor([1.0, 2.0])), None]), Some(tensor([factor, 2.0 * factor])));
        }
        assert_eq!(graphs(&instance), [false; 0]);
        for factor in [2.0, 5.0] {
            let inputs = [Some(tensor([1.0, 2.0])), Some(tensor([factor; 2]))];
            assert_eq!(answer(&mut instance, &inputs), Some(tensor([factor, 2.0 * factor])));
        }
        assert_eq!(graphs(&instance), [true]);
    }

    #[test]
    fn a_recording_waits_for_a_pause_of_other_work() {
        let _alone = RECORDING.lock();
        let mut instance = recording(loaded(), &["x"]);
        instance.graphs.as_mut().unwrap().patience = Duration::ZERO;
        let x = numbers_from(1.0, 3);
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let _work = gpu_work::shared();
            begun.send(()).unwrap();
            let _ = ended.recv();
        });
        is_begun.recv().unwrap();
        let asked = Instant::now();
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x.clone()));
        assert_eq!(graphs(&instance), [false; 0]);
        assert!(instance.graphs.as_ref().unwrap().not_before >= asked + PAUSE);
        drop(end);
        other.join().unwrap();
        instance.graphs.as_mut().unwrap().patience = Duration::from_secs(60);
        // However long this machine may stand still.
        instance.graphs.as_mut().unwrap().not_before += Duration::from_secs(3600);
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x.clone()));
        assert_eq!(graphs(&instance), [false; 0], "not at once");
        instance.graphs.as_mut().unwrap().not_before = Instant::now();
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
        assert_eq!(graphs(&instance), [true]);
    }
}
