//! A session as an instance of the engine.

use std::{
    ffi::{CStr, CString},
    mem::ManuallyDrop,
    sync::Arc,
    time::Instant,
};

use ort::session::{RunOptions, SessionInputValue};
use quintet_engine::{InferError, Instance, Placement, RunRequest, RunTimings, Tensor};

use super::{
    bound::Bound,
    graphs::Graphs,
    handle::{Handle, c_names},
    loaded::LoadedSession,
    outputs::{Run, take},
    provider::Provider,
    run_options::{run_options, stop},
    values,
};
use crate::backend::{gpu_work, run_error};

/// A session that runs one batch at a time.
pub(super) struct OnnxInstance {
    session: ManuallyDrop<Handle>,
    placement: Placement,
    inputs: Vec<String>,
    /// The names of `inputs` as ONNX Runtime takes them.
    c_inputs: Vec<CString>,
    outputs: Vec<String>,
    plain: Plain,
    /// `None` if the session cannot be bound.
    bound: Option<Bound>,
    /// Whether every run is bound; otherwise only runs with output placements are.
    is_bound: bool,
    /// `None` if CUDA graphs are not requested or not available.
    pub(super) graphs: Option<Graphs>,
}

impl LoadedSession {
    /// An instance that runs the session. `inputs` and `outputs` are the names in the order of the model's
    /// configuration, which may omit some.
    pub fn into_instance(self, inputs: Vec<String>, outputs: Vec<String>) -> Box<dyn Instance> {
        Box::new(OnnxInstance::new(self, inputs, outputs))
    }
}

impl OnnxInstance {
    /// As [`LoadedSession::into_instance`].
    pub(super) fn new(loaded: LoadedSession, inputs: Vec<String>, outputs: Vec<String>) -> Self {
        let LoadedSession { session, placement, is_bound, graphs, .. } = loaded;
        let bound = Bound::new(&session);
        if let Err(error) = &bound {
            tracing::warn!(%error, "cannot bind inputs and outputs; they are passed with each run");
        }
        let graphs = graphs.and_then(|device| {
            let graphs = Graphs::new(device, &session);
            graphs
                .inspect_err(
                    |error| tracing::warn!(%error, "CUDA graphs are not available: cannot use the GPU's memory"),
                )
                .ok()
        });
        let (session, bound) = (ManuallyDrop::new(session), bound.ok());
        let (c_inputs, plain) = (c_names(&inputs), Plain { outputs: c_names(&outputs), options: None });
        Self { session, placement, inputs, c_inputs, outputs, plain, bound, is_bound, graphs }
    }

    fn attempt(
        &mut self,
        request: RunRequest<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let inputs = request.inputs;
        let run = Run { output_names: &self.outputs, request };
        let names = (&self.inputs[..], &self.outputs[..]);
        let graph = self.graphs.as_mut().and_then(|graphs| graphs.get_or_record(&mut self.session, names, inputs));
        let _work = self.is_bound.then(gpu_work::shared);
        if let Some((graph, device)) = graph {
            return graph.replay(&mut self.session, device, run, timings);
        }
        let started = Instant::now();
        // An omitted input has a default in the model.
        let given = self.c_inputs.iter().zip(inputs).filter_map(|(name, tensor)| Some((&**name, tensor.as_ref()?)));
        let values = given.map(|(name, tensor)| Ok((name, values::input(tensor)?)));
        let values = values.collect::<Result<Vec<_>, InferError>>()?;
        timings.copy_in = started.elapsed();
        match &mut self.bound {
            Some(bound) if self.is_bound || !request.placements.is_empty() => {
                bound.run(&mut self.session, &values, run, timings)
            }
            // Without a binding, outputs are not written to their placements, so they must not be read there.
            _ => {
                let request = RunRequest { placements: &[], ..request };
                self.plain.run(&mut self.session, &values, Run { request, ..run }, timings)
            }
        }
    }
}

/// Runs whose inputs are passed with the call.
struct Plain {
    /// The names of the instance's outputs.
    outputs: Vec<CString>,
    options: Option<Arc<RunOptions>>,
}

impl Plain {
    fn run(
        &mut self,
        session: &mut Handle,
        values: &[(&CStr, SessionInputValue<'_>)],
        run: Run<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let RunRequest { outputs, cancel, .. } = run.request;
        let options = match &self.options {
            Some(options) => Arc::clone(options),
            None => {
                let options = run_options().map_err(InferError::internal)?;
                Arc::clone(self.options.insert(Arc::new(options)))
            }
        };
        let guard = cancel.on_cancel({
            let options = Arc::clone(&options);
            move || stop(&options)
        });
        let requested = self.outputs.iter().enumerate().filter(|(index, _)| outputs.contains(*index));
        let requested: Vec<_> = requested.map(|(_, name)| name.as_c_str()).collect();
        let started = Instant::now();
        let results = session.run(values, &requested, &options);
        timings.infer = started.elapsed();
        drop(guard);
        if cancel.is_cancelled() {
            // The options are terminated, and would stop every later run, too.
            self.options = None;
        }
        take(results.map_err(run_error)?, run, timings)
    }
}

impl Drop for OnnxInstance {
    fn drop(&mut self) {
        // Dropping the session frees its GPU memory.
        let _work = self.is_bound.then(gpu_work::shared);
        (self.bound, self.graphs) = (None, None);
        // SAFETY: nothing uses the session after this.
        unsafe { ManuallyDrop::drop(&mut self.session) };
    }
}

impl Instance for OnnxInstance {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        match self.attempt(request, timings) {
            // The model file may have a dynamic shape, and give another shape than the configured one.
            Err(error) if !request.placements.is_empty() && !request.cancel.is_cancelled() => {
                tracing::debug!(%error, "cannot write outputs to the client's memory");
                self.attempt(RunRequest { placements: &[], ..request }, timings)
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
    use quintet_engine::{Cancel, DataType, OutputPlacement, OutputSet, Shape};
    use quintet_onnxruntime::ThreadPool;

    use super::*;
    use crate::backend::onnx::{LoadOptions, Tuning, load};

    /// The identity model on the CPU.
    pub(in super::super) fn loaded() -> LoadedSession {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, super::super::pinned::IDENTITY).unwrap();
        loaded_from(&path)
    }

    /// A model file on the CPU.
    pub(in super::super) fn loaded_from(path: &Path) -> LoadedSession {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let options = LoadOptions { library, providers: vec![Provider::Cpu], engine_cache: None };
        load(path, &options, &Tuning::default()).unwrap()
    }

    /// Runs an instance with one output.
    pub(in super::super) fn run(
        instance: &mut OnnxInstance,
        inputs: &[Option<Tensor>],
        placements: &[OutputPlacement],
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let cancel = Cancel::new(1);
        let request = RunRequest { inputs, outputs: OutputSet::all(1), placements, cancel: &cancel };
        instance.run(request, &mut RunTimings::default())
    }

    /// The instance as it is if ONNX Runtime cannot bind the session.
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
                let inputs = &[Some(x.clone())];
                let request = RunRequest { inputs, outputs: OutputSet::all(1), placements: &[], cancel };
                instance.run(request, &mut RunTimings::default())
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
