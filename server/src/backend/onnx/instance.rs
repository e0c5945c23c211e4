//! One session as an instance of the engine.

use std::{sync::Arc, time::Instant};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use quintet_engine::{Cancel, InferError, Instance, OutputSet, Placement, RunTimings, Tensor};

use super::{Provider, values};

/// A session that runs one batch at a time.
pub(super) struct OnnxInstance {
    session: Session,
    placement: Placement,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The run options of the last set of outputs: clients rarely change theirs.
    selected: Option<(OutputSet, Arc<Stoppable>)>,
}

/// Run options that another thread may use to stop the run.
struct Stoppable(RunOptions<HasSelectedOutputs>);

// SAFETY: ort withholds `Sync` because runs of two threads could write to one preallocated output.
// These select outputs by name only, the instance's thread alone runs with them, and other threads only
// set the termination flag, which ONNX Runtime allows at any time.
unsafe impl Sync for Stoppable {}

impl Stoppable {
    fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run cannot be stopped");
        }
    }
}

impl OnnxInstance {
    pub(super) fn new(session: Session, placement: Placement, inputs: Vec<String>, outputs: Vec<String>) -> Self {
        Self { session, placement, inputs, outputs, selected: None }
    }

    fn select(&mut self, wanted: OutputSet) -> ort::Result<()> {
        if self.selected.as_ref().is_some_and(|(set, _)| *set == wanted) {
            return Ok(());
        }
        let names = self.outputs.iter().enumerate().filter(|(index, _)| wanted.contains(*index));
        let selector = names.fold(OutputSelector::no_default(), |selector, (_, name)| selector.with(name));
        self.selected = Some((wanted, Arc::new(Stoppable(RunOptions::new()?.with_outputs(selector)))));
        Ok(())
    }
}

impl Instance for OnnxInstance {
    fn run(
        &mut self,
        inputs: &[Tensor],
        wanted: OutputSet,
        cancel: &Cancel,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        self.select(wanted).map_err(InferError::internal)?;
        let values = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(name, tensor)| Ok((name.as_str(), values::input(tensor)?)))
            .collect::<Result<Vec<(&str, SessionInputValue<'_>)>, InferError>>()?;
        let Some((_, options)) = self.selected.clone() else {
            return Err(InferError::internal("no outputs are selected"));
        };
        let ready = Instant::now();
        timings.copy_in = ready - started;
        let guard = cancel.on_cancel({
            let options = Arc::clone(&options);
            move || options.stop()
        });
        let results = self.session.run_with_options(values, &options.0);
        drop(guard);
        if cancel.is_cancelled() {
            // Options that were told to stop would stop every later run, too.
            self.selected = None;
        }
        let mut results = results.map_err(InferError::internal)?;
        let ran = Instant::now();
        timings.infer = ran - ready;
        let outputs = self
            .outputs
            .iter()
            .enumerate()
            .map(|(index, name)| {
                if !wanted.contains(index) {
                    return Ok(None);
                }
                let value = results
                    .remove(name)
                    .ok_or_else(|| InferError::internal(format_args!("the model gave no output '{name}'")))?;
                values::output(name, value).map(Some)
            })
            .collect();
        timings.copy_out = ran.elapsed();
        outputs
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn moves(&self) -> bool {
        self.placement.nodes.iter().all(|(provider, _)| provider == Provider::Cpu.name())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_engine::{DataType, Shape};
    use quintet_onnxruntime::ThreadPool;

    use super::*;
    use crate::backend::onnx::{LoadOptions, Provider, Tuning, load};

    /// A message's field that is a message or a string, of less than 128 bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    /// A field that is a number below 128.
    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    /// ONNX's form of `y = Identity(x)`, FP32, of any length.
    fn identity() -> Vec<u8> {
        let shape = field(1, &field(2, b"n"));
        let tensor = [number(1, 1), field(2, &shape)].concat();
        let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor))].concat();
        let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
        let graph = [field(1, &node), field(2, b"g"), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
        [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
    }

    #[test]
    fn a_cancelled_run_stops_and_the_next_one_does_not() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, identity()).unwrap();
        let options = LoadOptions {
            environment: library.environment.clone(),
            providers: vec![Provider::Cpu],
            engine_cache: None,
        };
        let mut instance =
            load(&path, &options, &Tuning::default()).unwrap().into_instance(vec!["x".into()], vec!["y".into()]);
        let x = Tensor::new(DataType::Fp32, Shape::new([2]), Bytes::from(vec![0; 8])).unwrap();
        let mut run = |cancel: &Cancel| {
            instance.run(std::slice::from_ref(&x), OutputSet::all(1), cancel, &mut RunTimings::default())
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
