//! Options of a run: which CUDA graph it records or replays, and how another thread stops it.

use ort::session::RunOptions;

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

/// Stops the run that has these options. They then stop every later run, too.
pub(super) fn stop(options: &RunOptions) {
    if let Err(error) = options.terminate() {
        tracing::warn!(%error, "a run cannot be stopped");
    }
}
