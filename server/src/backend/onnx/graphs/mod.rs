//! CUDA graphs (`enable_cuda_graph`): the GPU work of a run is recorded once for each shape of the inputs, and replayed
//! for later batches of that shape, which saves launching each kernel.
//!
//! A replay reads and writes the memory of the recorded run, so a graph owns its tensors on the GPU: inputs are copied
//! to them, and outputs from them. ONNX Runtime does not compare the bound tensors with the recorded ones. A graph is
//! therefore kept only if its outputs equal those of plain runs on two inputs, one of which it was not recorded with.
//! The CUDA provider keeps graphs for the thread that recorded them: the instance's.
//!
//! This code has not run on a GPU yet. The tests run it on the CPU, where each replay is a plain run.

mod check;
mod device;
mod graph;

use std::time::{Duration, Instant};

use ort::{memory::Allocator, session::Session};
use quintet_engine::{DataType, Shape, Tensor};
use quintet_onnxruntime::one_line;

pub(super) use self::device::Device;
use self::graph::Graph;
use super::handle::Handle;
use crate::backend::gpu_work;

/// Maximum number of shapes that an instance records graphs for; each takes GPU memory.
const MAX_GRAPHS: usize = 32;

/// How long a batch of a new shape waits for all other GPU work to end. New work is delayed meanwhile.
const RECORD_TIMEOUT: Duration = Duration::from_millis(50);

/// Time between a timeout and the next attempt to record.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The graphs of one session.
pub(super) struct Graphs {
    device: Device,
    allocator: Allocator,
    timeout: Duration,
    /// The earliest time of the next attempt to record.
    not_before: Instant,
    seen: Vec<SeenInputs>,
}

/// The types and shapes of inputs seen before, and the graph for them if it could be recorded.
struct SeenInputs {
    inputs: Vec<(DataType, Shape)>,
    graph: Option<Graph>,
}

impl SeenInputs {
    fn matches(&self, given: &[Option<Tensor>]) -> bool {
        let is_equal = |((data_type, shape), given): (&(DataType, Shape), &Option<Tensor>)| {
            given.as_ref().is_some_and(|tensor| tensor.data_type() == *data_type && tensor.shape() == shape)
        };
        self.inputs.len() == given.len() && self.inputs.iter().zip(given).all(is_equal)
    }
}

impl Graphs {
    pub(super) fn new(device: Device, session: &Session) -> ort::Result<Self> {
        let allocator = Allocator::new(session, device.memory.clone())?;
        Ok(Self { device, allocator, timeout: RECORD_TIMEOUT, not_before: Instant::now(), seen: Vec::new() })
    }

    /// The graph for these inputs, recorded if they are the first with their shapes; `names` are the instance's inputs
    /// and outputs. `None` if the inputs need a plain run.
    pub(super) fn get_or_record(
        &mut self,
        session: &mut Handle,
        names: (&[String], &[String]),
        given: &[Option<Tensor>],
    ) -> Option<(&mut Graph, &Device)> {
        let index = match self.seen.iter().position(|seen| seen.matches(given)) {
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

    /// Records the graph for new inputs, unless there are too many graphs or an attempt timed out lately.
    fn record(
        &mut self,
        session: &mut Handle,
        names: (&[String], &[String]),
        given: &[Option<Tensor>],
    ) -> Option<SeenInputs> {
        if self.seen.len() == MAX_GRAPHS || Instant::now() < self.not_before {
            return None;
        }
        // A graph needs every input, each with a fixed size.
        let fixed = |tensor: &Tensor| tensor.data_type().size().map(|_| (tensor.data_type(), tensor.shape().clone()));
        let inputs: Vec<_> = given.iter().map(|given| given.as_ref().and_then(fixed)).collect::<Option<_>>()?;
        let Some(exclusive) = gpu_work::exclusive(self.timeout) else {
            self.not_before = Instant::now() + RETRY_INTERVAL;
            return None;
        };
        let recorded = Graph::record(self.seen.len() + 1, session, names, &inputs, (&self.device, &self.allocator));
        drop(exclusive);
        let shapes: Vec<_> = inputs.iter().map(|(_, shape)| shape.dims()).collect();
        match &recorded {
            Ok(_) => tracing::info!(?shapes, "CUDA graph recorded"),
            Err(error) => {
                let reason = one_line(&error.to_string());
                tracing::warn!(?shapes, reason, "cannot record a CUDA graph; batches of these shapes use plain runs");
            }
        }
        Some(SeenInputs { inputs, graph: recorded.ok() })
    }
}

#[cfg(test)]
pub(super) mod tests;
