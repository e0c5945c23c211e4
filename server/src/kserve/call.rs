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
    /// Return the top classes instead of the numbers: how many.
    pub classes: Option<usize>,
    /// Write it there instead of sending it.
    pub shared: Option<SharedRange>,
}

/// An output of an answer.
pub struct AnsweredOutput {
    /// Its name in the model.
    pub name: String,
    /// What it is.
    pub tensor: Tensor,
    /// Where it was written, and is not to be sent then.
    pub shared: Option<SharedRange>,
}

/// An inference request as its transport read it.
pub struct Call<'a> {
    /// The client's name for the request; empty if it has none.
    pub id: &'a str,
    /// Inputs as sent.
    pub inputs: Vec<SentInput<'a>>,
    /// Outputs named; all if empty.
    pub outputs: Vec<WantedOutput<'a>>,
    /// Lower is sooner.
    pub priority: u32,
    /// How long the request asks to wait in the queue at most; the model's configuration decides.
    pub timeout: Option<Duration>,
    /// When its client stops waiting, where the transport knows.
    pub deadline: Option<Instant>,
    /// When the server had its first byte.
    pub started: Instant,
    /// Stage times so far.
    pub timings: StageTimings,
}

/// What a model answered.
pub struct Answer {
    /// The model.
    pub model: Arc<Model>,
    /// Outputs by name, in the order of the names (Triton keeps them in an ordered set).
    pub outputs: Vec<AnsweredOutput>,
    /// Stage times so far.
    pub timings: StageTimings,
}
