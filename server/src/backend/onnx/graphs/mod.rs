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
mod graph;

use std::time::{Duration, Instant};

use ort::{memory::Allocator, session::Session};
use quintet_engine::{DataType, Shape, Tensor};
use quintet_onnxruntime::one_line;

pub(super) use self::device::Device;
use self::graph::Graph;
use crate::backend::gpu_work;

/// Shapes that an instance records graphs for at most; each takes memory of the GPU.
const MAX_GRAPHS: usize = 32;

/// How long a batch of a new shape waits for all other work on GPUs to end, which holds up what comes meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long after a wait in vain the next one may be.
const PAUSE: Duration = Duration::from_secs(1);

/// The graphs of one session.
pub(super) struct Graphs {
    device: Device,
    allocator: Allocator,
    patience: Duration,
    /// When other work may be held up again.
    not_before: Instant,
    seen: Vec<SeenInputs>,
}

/// The types and shapes of inputs seen before, and the graph for them unless it cannot be had.
struct SeenInputs {
    inputs: Vec<(DataType, Shape)>,
    graph: Option<Graph>,
}

impl SeenInputs {
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
        Ok(Self { device, allocator, patience: PATIENCE, not_before: Instant::now(), seen: Vec::new() })
    }

    /// The graph for these inputs, which is recorded if they are the first of their shapes; `names` are the instance's
    /// inputs and outputs. `None` where they can be run only.
    pub(super) fn of(
        &mut self,
        session: &mut Session,
        names: (&[String], &[String]),
        given: &[Option<Tensor>],
    ) -> Option<(&mut Graph, &Device)> {
        let index = match self.seen.iter().position(|seen| seen.is(given)) {
            Some(index) => index,
            None => {
                let seen = self.record(session, names, given)?;
                self.seen.push(seen);
                self.seen.len() - 1
            }
        };
        let graph = self.seen.get_mut(index)?.graph.as_mut()?;
        Some((graph, &self.device))
    }

    /// Records the graph of new inputs, if it is their time.
    fn record(
        &mut self,
        session: &mut Session,
        names: (&[String], &[String]),
        given: &[Option<Tensor>],
    ) -> Option<SeenInputs> {
        if self.seen.len() == MAX_GRAPHS || Instant::now() < self.not_before {
            return None;
        }
        // An input that is left out, or has no fixed size, has no place.
        let fixed = |tensor: &Tensor| tensor.data_type().size().map(|_| (tensor.data_type(), tensor.shape().clone()));
        let inputs: Vec<_> = given.iter().map(|given| given.as_ref().and_then(fixed)).collect::<Option<_>>()?;
        let Some(alone) = gpu_work::alone(self.patience) else {
            self.not_before = Instant::now() + PAUSE;
            return None;
        };
        let recorded = Graph::record(self.seen.len() + 1, session, names, &inputs, (&self.device, &self.allocator));
        drop(alone);
        let shapes: Vec<_> = inputs.iter().map(|(_, shape)| shape.dims()).collect();
        match &recorded {
            Ok(_) => tracing::info!(?shapes, "CUDA graph recorded"),
            Err(error) => {
                let reason = one_line(&error.to_string());
                tracing::warn!(?shapes, reason, "no CUDA graph; such batches are run");
            }
        }
        Some(SeenInputs { inputs, graph: recorded.ok() })
    }
}

#[cfg(test)]
pub(super) mod tests;
