//! The stages of a request, and its time in each.

use std::{
    ops::{Index, IndexMut},
    time::Duration,
};

/// A stage of a request in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the body from the socket.
    Receive,
    /// Protocol to tensors; on the jpeg lane also decoding and preprocessing of the images.
    Parse,
    /// Waiting for an instance, `max_queue_delay` and the lookup in the response cache included.
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
