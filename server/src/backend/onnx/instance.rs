//! One session as an instance of the engine.

use std::{mem::ManuallyDrop, sync::Arc, time::Instant};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use quintet_engine::{Cancel, InferError, Instance, OutputPlacement, OutputSet, Placement, RunTimings, Tensor};

use super::{
    bound::Bound,
    graphs::Graphs,
    loaded::LoadedSession,
    outputs::{Wanted, take},
    provider::Provider,
    run_options::{Stoppable, run_options},
    values,
};
use crate::backend::gpu_work;

/// A session that runs one batch at a time.
pub(super) struct OnnxInstance {
    session: ManuallyDrop<Session>,
    placement: Placement,
    inputs: Vec<String>,
    outputs: Vec<String>,
    plain: Plain,
    /// `None` if the session cannot be bound.
    bound: Option<Bound>,
    /// Whether every run is bound; else those that write to places are.
    is_bound: bool,
    /// `None` if CUDA graphs are not asked for, or cannot be had.
    pub(super) graphs: Option<Graphs>,
}

impl LoadedSession {
    /// An instance that runs the session. `outputs` are the names of the outputs in the order of the
    /// model's configuration, which may leave some out; `inputs` likewise.
    pub fn into_instance(self, inputs: Vec<String>, outputs: Vec<String>) -> Box<dyn Instance> {
        Box::new(OnnxInstance::new(self, inputs, outputs))
    }
}

impl OnnxInstance {
    /// An instance with these inputs and outputs, of the names that the session's have.
    pub(super) fn new(loaded: LoadedSession, inputs: Vec<String>, outputs: Vec<String>) -> Self {
        let LoadedSession { session, placement, is_bound, graphs, .. } = loaded;
        let bound = Bound::new(&session, &inputs);
        if let Err(error) = &bound {
            tracing::warn!(%error, "inputs and outputs cannot be bound; they are handed over with each run");
        }
        let graphs = graphs.and_then(|device| {
            let graphs = Graphs::new(device, &session);
            graphs.inspect_err(|error| tracing::warn!(%error, "no CUDA graphs: no memory for them")).ok()
        });
        let (session, bound) = (ManuallyDrop::new(session), bound.ok());
        Self { session, placement, inputs, outputs, plain: Plain { selected: None }, bound, is_bound, graphs }
    }

    fn attempt(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        places: &[OutputPlacement],
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let wanted = Wanted { names: &self.outputs, set: wanted, places };
        let names = (&self.inputs[..], &self.outputs[..]);
        let graph = self.graphs.as_mut().and_then(|graphs| graphs.of(&mut self.session, names, inputs));
        let _work = self.is_bound.then(gpu_work::shared);
        if let Some((graph, device)) = graph {
            return graph.replay(&mut self.session, device, inputs, wanted, timings);
        }
        let started = Instant::now();
        // What is left out has a default in the model.
        let given = self.inputs.iter().zip(inputs).filter_map(|(name, tensor)| Some((name.as_str(), tensor.as_ref()?)));
        let values = given.map(|(name, tensor)| Ok((name, values::input(tensor)?)));
        let values = values.collect::<Result<Vec<_>, InferError>>()?;
        timings.copy_in = started.elapsed();
        match &mut self.bound {
            Some(bound) if self.is_bound || !places.is_empty() => {
                bound.run(&mut self.session, (inputs, &values), wanted, cancel, timings)
            }
            // Without a binding nothing is written to a place, so no answer may be read there.
            _ => {
                let wanted = Wanted { places: &[], ..wanted };
                self.plain.run(&mut self.session, (inputs, values), wanted, cancel, timings)
            }
        }
    }
}

/// Runs with what is handed over in the call.
struct Plain {
    /// The run options of the last set of outputs: clients rarely change theirs.
    selected: Option<(OutputSet, Arc<Stoppable<HasSelectedOutputs>>)>,
}

impl Plain {
    fn run(
        &mut self,
        session: &mut Session,
        (inputs, values): (&[Option<Tensor>], Vec<(&str, SessionInputValue<'_>)>),
        wanted: Wanted<'_>,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let options = match &self.selected {
            Some((set, options)) if *set == wanted.set => Arc::clone(options),
            _ => {
                let options = Arc::new(Stoppable(select(wanted).map_err(InferError::internal)?));
                self.selected = Some((wanted.set, Arc::clone(&options)));
                options
            }
        };
        let guard = cancel.on_cancel({
            let options = Arc::clone(&options);
            move || options.stop()
        });
        let started = Instant::now();
        let results = session.run_with_options(values, &options.0);
        timings.infer = started.elapsed();
        drop(guard);
        if cancel.is_cancelled() {
            // Options that were told to stop would stop every later run, too.
            self.selected = None;
        }
        take(results.map_err(InferError::internal)?, inputs, wanted, timings)
    }
}

fn select(wanted: Wanted<'_>) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    let selector = wanted.iter().fold(OutputSelector::no_default(), |selector, (name, _)| selector.with(name));
    Ok(run_options()?.with_outputs(selector))
}

impl Drop for OnnxInstance {
    fn drop(&mut self) {
        // What a session has of a GPU's memory goes back to the GPU.
        let _work = self.is_bound.then(gpu_work::shared);
        (self.bound, self.graphs) = (None, None);
        // SAFETY: nothing uses the session after this.
        unsafe { ManuallyDrop::drop(&mut self.session) };
    }
}

impl Instance for OnnxInstance {
    fn run(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        self.run_into(inputs, wanted, &[], cancel, timings)
    }

    fn run_into(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        places: &[OutputPlacement],
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        match self.attempt(inputs, wanted, places, cancel, timings) {
            // The file may have left a shape open, and give another one than it is configured to.
            Err(error) if !places.is_empty() && !cancel.is_cancelled() => {
                tracing::debug!(%error, "outputs cannot be written to their places");
                self.attempt(inputs, wanted, &[], cancel, timings)
            }
            outcome => outcome,
        }
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn runs_on_any_thread(&self) -> bool {
        self.placement.nodes.iter().all(|(provider, _)| provider == Provider::Cpu.name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use quintet_engine::{DataType, Shape};
    use quintet_onnxruntime::ThreadPool;

    use super::*;
    use crate::backend::onnx::{LoadOptions, Tuning, load};

    /// The model that gives what it gets, on the CPU.
    pub(in super::super) fn loaded() -> LoadedSession {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, super::super::pinned::IDENTITY).unwrap();
        loaded_from(&path)
    }

    /// A model file, on the CPU.
    pub(in super::super) fn loaded_from(path: &Path) -> LoadedSession {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let options = LoadOptions { library, providers: vec![Provider::Cpu], engine_cache: None };
        load(path, &options, &Tuning::default()).unwrap()
    }

    /// The instance as it is where ONNX Runtime has no binding for the session.
    pub(in super::super) fn without_binding(mut instance: OnnxInstance) -> OnnxInstance {
        instance.bound = None;
        instance
    }

    #[test]
    fn a_cancelled_run_stops_and_the_next_one_does_not() {
        for is_bound in [false, true] {
            let mut session = loaded();
            session.is_bound = is_bound;
            let mut instance = session.into_instance(vec!["x".into()], vec!["y".into()]);
            let x = Tensor::new(DataType::Fp32, Shape::new([2]), Bytes::from(vec![0; 8])).unwrap();
            let mut run = |cancel: &Cancel| {
                instance.run(&[Some(x.clone())], OutputSet::all(1), cancel, &mut RunTimings::default())
            };
            for _ in 0..2 {
                let wanted = Cancel::new(1);
                assert_eq!(run(&wanted).unwrap(), [Some(x.clone())]);
                let given_up = Cancel::new(1);
                given_up.leave();
                let error = run(&given_up).unwrap_err();
                assert!(error.to_string().contains("terminate"), "{error}");
            }
        }
    }
}
