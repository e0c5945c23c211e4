//! One session as an instance of the engine.

use std::{sync::Arc, time::Instant};

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use quintet_engine::{Cancel, InferError, Instance, OutputSet, Placement, RunTimings, Tensor};

use super::values;

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
}
