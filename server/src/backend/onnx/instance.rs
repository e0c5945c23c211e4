//! One session as an instance of the engine.

use std::{sync::Arc, time::Instant};

use ort::session::{
    HasSelectedOutputs, OutputSelector, RunOptions, SelectedOutputMarker, Session, SessionInputValue, SessionOutputs,
};
use quintet_engine::{Cancel, InferError, Instance, OutputSet, Placement, RunTimings, Tensor};

use super::{Provider, bound::Bound, values};

/// A session that runs one batch at a time.
pub(super) struct OnnxInstance {
    session: Session,
    placement: Placement,
    inputs: Vec<String>,
    outputs: Vec<String>,
    way: Way,
}

/// How a batch gets to the session.
enum Way {
    /// With the call. The run options of the last set of outputs: clients rarely change theirs.
    Plain(Option<(OutputSet, Arc<Stoppable<HasSelectedOutputs>>)>),
    /// Before the call.
    Bound(Box<Bound>),
}

/// Run options that another thread may use to stop the run.
pub(super) struct Stoppable<O: SelectedOutputMarker>(pub(super) RunOptions<O>);

// SAFETY: ort withholds `Sync` because runs of two threads could write to one preallocated output.
// These select outputs by name only, one thread at a time has the instance and runs with them, and other threads
// only set the termination flag, which ONNX Runtime allows at any time.
unsafe impl<O: SelectedOutputMarker> Sync for Stoppable<O> {}

impl<O: SelectedOutputMarker> Stoppable<O> {
    pub(super) fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run cannot be stopped");
        }
    }
}

impl OnnxInstance {
    /// `is_bound` binds inputs and outputs, which a session on a GPU gains from.
    pub(super) fn new(
        session: Session,
        placement: Placement,
        inputs: Vec<String>,
        outputs: Vec<String>,
        is_bound: bool,
    ) -> Self {
        let way = match is_bound.then(|| Bound::new(&session, &inputs)) {
            Some(Ok(bound)) => Way::Bound(Box::new(bound)),
            Some(Err(error)) => {
                tracing::warn!(%error, "inputs and outputs cannot be bound; they are handed over with each run");
                Way::Plain(None)
            }
            None => Way::Plain(None),
        };
        Self { session, placement, inputs, outputs, way }
    }
}

impl Way {
    fn run(
        &mut self,
        session: &mut Session,
        inputs: Vec<(&str, SessionInputValue<'_>)>,
        names: &[String],
        wanted: OutputSet,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let selected = match self {
            Self::Bound(bound) => return bound.run(session, &inputs, names, wanted, cancel, timings),
            Self::Plain(selected) => selected,
        };
        let options = match selected {
            Some((set, options)) if *set == wanted => Arc::clone(options),
            _ => {
                let options = Arc::new(Stoppable(select(names, wanted).map_err(InferError::internal)?));
                *selected = Some((wanted, Arc::clone(&options)));
                options
            }
        };
        let guard = cancel.on_cancel({
            let options = Arc::clone(&options);
            move || options.stop()
        });
        let started = Instant::now();
        let results = session.run_with_options(inputs, &options.0);
        timings.infer = started.elapsed();
        drop(guard);
        if cancel.is_cancelled() {
            // Options that were told to stop would stop every later run, too.
            *selected = None;
        }
        take(results.map_err(InferError::internal)?, names, wanted, timings)
    }
}

/// The outputs that are wanted, in the order of `names`.
pub(super) fn take(
    mut results: SessionOutputs<'_>,
    names: &[String],
    wanted: OutputSet,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    let started = Instant::now();
    let outputs = names.iter().enumerate().map(|(index, name)| {
        if !wanted.contains(index) {
            return Ok(None);
        }
        let value = results
            .remove(name)
            .ok_or_else(|| InferError::internal(format_args!("the model gave no output '{name}'")))?;
        values::output(name, value).map(Some)
    });
    let outputs = outputs.collect();
    timings.copy_out = started.elapsed();
    outputs
}

fn select(names: &[String], wanted: OutputSet) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    let names = names.iter().enumerate().filter(|(index, _)| wanted.contains(*index));
    let selector = names.fold(OutputSelector::no_default(), |selector, (_, name)| selector.with(name));
    Ok(RunOptions::new()?.with_outputs(selector))
}

impl Instance for OnnxInstance {
    fn run(
        &mut self,
        inputs: &[Option<Tensor>],
        wanted: OutputSet,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        // What is left out has a default in the model.
        let given = self.inputs.iter().zip(inputs).filter_map(|(name, tensor)| Some((name.as_str(), tensor.as_ref()?)));
        let inputs = given.map(|(name, tensor)| Ok((name, values::input(tensor)?)));
        let inputs = inputs.collect::<Result<Vec<_>, InferError>>()?;
        timings.copy_in = started.elapsed();
        self.way.run(&mut self.session, inputs, &self.outputs, wanted, cancel, timings)
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn moves(&self) -> bool {
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
    use crate::backend::onnx::{LoadOptions, LoadedSession, Provider, Tuning, load};

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
        let options = LoadOptions {
            environment: library.environment.clone(),
            providers: vec![Provider::Cpu],
            engine_cache: None,
        };
        load(path, &options, &Tuning::default()).unwrap()
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
                assert!(error.message().contains("terminate"), "{error}");
            }
        }
    }
}
