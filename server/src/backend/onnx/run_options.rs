//! Options of a run: which CUDA graph it records or replays, and how another thread stops it.

use ort::session::{RunOptions, SelectedOutputMarker};

/// ONNX Runtime's run option that names the graph to record or replay.
const GRAPH: &str = "gpu_graph_id";

/// The value of [`GRAPH`] for a plain run.
const NO_GRAPH: &str = "-1";

/// Options of a run that neither records nor replays.
pub(super) fn run_options() -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set(GRAPH, NO_GRAPH)?;
    Ok(options)
}

/// Options of a run that records or replays the graph with this number.
pub(super) fn graph_options(graph: usize) -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set(GRAPH, graph.to_string())?;
    Ok(options)
}

/// Run options with which another thread can stop the run.
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
