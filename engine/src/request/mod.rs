//! Requests and responses. A request is one struct that moves forward and gets a time at each stage.

mod admit;
mod output_memory;
mod stages;

use std::{sync::Arc, time::Instant};

pub use self::{
    admit::SentInput,
    output_memory::{OutputMemory, OutputPlacement},
    stages::{Stage, StageTimings},
};
use crate::{
    spec::{ModelSpec, OutputSet},
    tensor::{Shape, Tensor},
};

/// A request that a model has admitted ([`crate::ModelSpec::admit`]).
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// When the server received its first byte.
    pub started: Instant,
    /// One entry for each of the model's inputs, in the model's order; `None` for an optional one that was left out.
    pub inputs: Vec<Option<Tensor>>,
    /// Rows of the batch dimension; 1 for a model without one.
    pub rows: usize,
    /// The outputs wanted.
    pub outputs: OutputSet,
    /// The client's memory for outputs, by their index. The response has other memory for outputs that could not be
    /// written there.
    pub output_memory: Vec<(usize, Arc<dyn OutputMemory>)>,
    /// 1 is the highest; 0 is the model's default ([`crate::BatchPolicy::level`]).
    pub priority: u32,
    /// When the request must have left the queue, if the model lets requests limit that
    /// ([`crate::QueuePolicy::allow_timeout_override`]).
    pub deadline: Option<Instant>,
    /// When its client stops waiting, if it says so. A queue without an order of its own refuses a request at once that it
    /// cannot answer by then.
    pub client_deadline: Option<Instant>,
    /// Stage times so far.
    pub timings: StageTimings,
}

/// A model's response.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// The wanted outputs with their index in [`crate::ModelSpec::outputs`], in the model's order.
    pub outputs: Vec<(usize, Tensor)>,
    /// Stage times so far.
    pub timings: StageTimings,
}

impl InferRequest {
    /// A request of this many rows, of the model's default priority, without deadlines, whose outputs go to memory of the
    /// model. Its stage times are zero.
    pub fn new(started: Instant, inputs: Vec<Option<Tensor>>, rows: usize, outputs: OutputSet) -> Self {
        Self {
            started,
            inputs,
            rows,
            outputs,
            output_memory: Vec::new(),
            priority: 0,
            deadline: None,
            client_deadline: None,
            timings: StageTimings::default(),
        }
    }

    /// The outputs that can be written to the client's memory. Not among them are those of unknown size, those that do
    /// not fit, and those whose memory is also an input's or an earlier output's.
    pub(crate) fn output_placements(&self, spec: &ModelSpec, inputs: &[Option<Tensor>]) -> Vec<OutputPlacement> {
        let place = |(index, memory): &(usize, Arc<dyn OutputMemory>)| {
            let output = spec.outputs().get(*index)?;
            let dims: Option<Vec<usize>> = output.dims.iter().copied().collect();
            let rows = spec.batches().then_some(self.rows);
            let shape = Shape::new(rows.into_iter().chain(dims?).collect::<Vec<_>>());
            let is_apart = inputs.iter().flatten().all(|input| are_apart((**memory).as_ref(), input.data()));
            is_apart.then(|| OutputPlacement::new(*index, output.data_type, shape, Arc::clone(memory)))?
        };
        let wanted = self.output_memory.iter().filter(|(index, _)| self.outputs.contains(*index)).filter_map(place);
        wanted.fold(Vec::new(), |mut placed: Vec<OutputPlacement>, next| {
            if placed.iter().all(|other| are_apart((*other.memory).as_ref(), (*next.memory).as_ref())) {
                placed.push(next);
            }
            placed
        })
    }
}

fn are_apart(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (a.as_ptr_range(), b.as_ptr_range());
    a.end <= b.start || b.end <= a.start
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_proto::DataType;

    use super::*;
    use crate::spec::{BatchPolicy, TensorSpec};

    #[derive(Debug)]
    struct Shared(Bytes, usize);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..]
        }
    }

    // SAFETY: the memory is the test's own, and no test writes to it.
    unsafe impl OutputMemory for Shared {
        fn start(&self) -> *mut u8 {
            self.as_ref().as_ptr().cast_mut()
        }
    }

    /// The outputs that fit, with shape and size: two rows of an output of each kind in memory of `bytes` bytes.
    fn placed(bytes: usize, skipped: usize, shares_with_input: bool) -> Vec<(usize, String)> {
        let outputs = vec![
            TensorSpec::new("fixed", DataType::Fp32, [Some(3)]),
            TensorSpec::new("dynamic", DataType::Fp32, [None]),
            TensorSpec::new("strings", DataType::Bytes, [Some(3)]),
            TensorSpec::new("unwanted", DataType::Uint8, [Some(1)]),
        ];
        let policy = BatchPolicy { max_batch_size: 4, ..BatchPolicy::default() };
        let input = TensorSpec::new("x", DataType::Uint8, [Some(8)]);
        let spec = ModelSpec::new("m", 1, vec![input], outputs, policy).unwrap();
        let memory = crate::BufferPool::new(0).take(bytes).freeze();
        let sent = if shares_with_input { memory.slice(..16) } else { Bytes::from(vec![0; 16]) };
        let sent = Tensor::new(DataType::Uint8, Shape::new([2, 8]), sent).unwrap();
        let memory: Arc<dyn OutputMemory> = Arc::new(Shared(memory, skipped));
        let request = InferRequest {
            output_memory: (0..4).map(|index| (index, Arc::clone(&memory))).collect(),
            ..InferRequest::new(Instant::now(), vec![Some(sent.clone())], 2, OutputSet::all(3))
        };
        let placed = request.output_placements(&spec, &[Some(sent)]);
        placed.iter().map(|output| (output.index, format!("{} {}", output.shape, output.bytes()))).collect()
    }

    #[test]
    fn only_outputs_that_fit_are_written_to_the_clients_memory() {
        let fixed = [(0, "[2,3] 24".to_owned())];
        assert_eq!(placed(24, 0, false), fixed);
        assert_eq!(placed(100, 4, false), fixed, "larger, and aligned");
        assert_eq!(placed(23, 0, false), [], "too small");
        assert_eq!(placed(100, 2, false), [], "not aligned");
        assert_eq!(placed(100, 12, true), [], "over the input");
        assert_eq!(placed(100, 16, true), fixed, "right after the input");
    }

    #[test]
    fn outputs_do_not_share_a_place() {
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(2)]);
        let policy = BatchPolicy::default();
        let spec = ModelSpec::new("m", 1, vec![tensor("x")], vec![tensor("y"), tensor("z")], policy).unwrap();
        let memory = crate::BufferPool::new(0).take(64).freeze();
        let placed = |second: usize| {
            let of = |range: std::ops::Range<usize>| Arc::new(Shared(memory.slice(range), 0)) as Arc<dyn OutputMemory>;
            let request = InferRequest {
                output_memory: vec![(0, of(0..8)), (1, of(second..second + 8))],
                ..InferRequest::new(Instant::now(), Vec::new(), 1, OutputSet::all(2))
            };
            request.output_placements(&spec, &[]).iter().map(|output| output.index).collect::<Vec<_>>()
        };
        assert_eq!((placed(0), placed(4), placed(8)), (vec![0], vec![0], vec![0, 1]));
    }
}
