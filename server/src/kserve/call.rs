//! An inference request and its response, apart from the transport that carries them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quintet_engine::{Model, SentInput, StageTimings, Tensor};

use super::shared_memory::SharedRange;

/// An output that a request names.
#[derive(Clone, Debug)]
pub struct WantedOutput<'a> {
    /// Its name in the model.
    pub name: &'a str,
    /// The number of top classes to return instead of the output's values.
    pub classes: Option<usize>,
    /// Shared memory to write the output to instead of sending it.
    pub shared: Option<SharedRange>,
}

/// An output of an answer.
pub struct AnsweredOutput {
    /// Its name in the model.
    pub name: String,
    /// Type, shape and data.
    pub tensor: Tensor,
    /// The shared memory that it was written to; it is not sent then.
    pub shared: Option<SharedRange>,
}

/// An inference request as its transport read it.
pub struct Call<'a> {
    /// The client's id for the request; empty if it has none.
    pub id: &'a str,
    /// Inputs as sent.
    pub inputs: Vec<SentInput<'a>>,
    /// The outputs that the request names; empty for all outputs of the model.
    pub outputs: Vec<WantedOutput<'a>>,
    /// Priority in the queue: a lower one runs sooner.
    pub priority: u32,
    /// The longest wait in the queue that the request asks for; the model's configuration decides.
    pub timeout: Option<Duration>,
    /// When the client stops waiting, if the transport knows.
    pub deadline: Option<Instant>,
    /// When the first byte of the request was received.
    pub started: Instant,
    /// Stage times so far.
    pub timings: StageTimings,
}

/// A model's answer to a call.
pub struct Answer {
    /// The model.
    pub model: Arc<Model>,
    /// Outputs by name, in the order of the names (Triton keeps them in an ordered set).
    pub outputs: Vec<AnsweredOutput>,
    /// Stage times so far.
    pub timings: StageTimings,
}
