//! A request on its way: one struct that moves forward, stamped at each stage.

use std::{
    ops::{Index, IndexMut},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{place::Place, tensor::Tensor};

/// The outputs that a request wants, as a set of indices into [`crate::ModelSpec::outputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSet(u64);

impl OutputSet {
    /// A model has at most this many outputs.
    pub const MAX_OUTPUTS: usize = 64;

    /// No output.
    pub const NONE: Self = Self(0);

    /// The first `count` outputs, at most [`Self::MAX_OUTPUTS`].
    pub fn all(count: usize) -> Self {
        Self(if count >= Self::MAX_OUTPUTS { u64::MAX } else { (1 << count) - 1 })
    }

    /// With this output too.
    pub fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << (index % Self::MAX_OUTPUTS))
    }

    /// The outputs of either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as bits, the first output's lowest.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Whether this output is wanted.
    pub fn contains(self, index: usize) -> bool {
        index < Self::MAX_OUTPUTS && self.0 >> index & 1 == 1
    }
}

/// The parts of a request's time in the server, in the order in which they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the body from the socket.
    Receive,
    /// Protocol to tensors; on the jpeg lane also decoding and preprocessing of the images.
    Parse,
    /// Waiting for an instance, `max_queue_delay` and the look into the response cache included.
    Queue,
    /// Requests to one batch; nothing for a batch of one.
    Gather,
    /// Batch to the backend's input.
    CopyIn,
    /// The model's run.
    Infer,
    /// The backend's output to the server's buffers.
    CopyOut,
    /// Tensors to protocol.
    Encode,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 8] =
        [Self::Receive, Self::Parse, Self::Queue, Self::Gather, Self::CopyIn, Self::Infer, Self::CopyOut, Self::Encode];

    /// The stage's name in `Server-Timing` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Queue => "queue",
            Self::Gather => "gather",
            Self::CopyIn => "copy_in",
            Self::Infer => "infer",
            Self::CopyOut => "copy_out",
            Self::Encode => "encode",
        }
    }
}

/// How long a request spent in each [`Stage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimings([Duration; Stage::ALL.len()]);

impl StageTimings {
    /// Each stage with its time.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().zip(self.0)
    }
}

impl Index<Stage> for StageTimings {
    type Output = Duration;

    fn index(&self, stage: Stage) -> &Duration {
        &self.0[stage as usize]
    }
}

impl IndexMut<Stage> for StageTimings {
    fn index_mut(&mut self, stage: Stage) -> &mut Duration {
        &mut self.0[stage as usize]
    }
}

/// An inference request that a model has admitted ([`crate::ModelSpec::admit`]).
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// When the server had its first byte.
    pub started: Instant,
    /// One entry for each of the model's inputs, in the model's order; `None` for an optional one that was left out.
    pub inputs: Vec<Option<Tensor>>,
    /// Rows of the batch dimension; 1 for a model without one.
    pub rows: usize,
    /// The outputs wanted.
    pub outputs: OutputSet,
    /// Memory where the client wants outputs, by their index. What could not be written there stands elsewhere in the
    /// answer.
    pub places: Vec<(usize, Arc<dyn Place>)>,
    /// 1 is the soonest; 0 is the model's default ([`crate::BatchPolicy::level`]).
    pub priority: u32,
    /// When waiting in the queue no longer makes sense, where the model lets requests say so
    /// ([`crate::QueuePolicy::allow_timeout_override`]).
    pub deadline: Option<Instant>,
    /// Stage times so far.
    pub timings: StageTimings,
}

/// What a model answers.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// The wanted outputs with their index in [`crate::ModelSpec::outputs`], in the model's order.
    pub outputs: Vec<(usize, Tensor)>,
    /// Stage times so far.
    pub timings: StageTimings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sets() {
        let set = OutputSet::NONE.with(0).with(63);
        assert!(set.contains(0) && set.contains(63) && !set.contains(1) && !set.contains(64));
        assert!(OutputSet::all(64).contains(63));
        assert_eq!(OutputSet::all(2), OutputSet::NONE.with(0).with(1));
        assert_eq!(OutputSet::all(0), OutputSet::NONE);
    }
}
