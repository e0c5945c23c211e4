//! An inference request and its response, apart from the transport that carries them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, Model, ModelSpec, SentInput, StageTimings, Tensor, budget::Charge};

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

/// A [`Call`] that borrows nothing: another thread can make it.
pub struct OwnedCall {
    id: String,
    inputs: Vec<(String, Option<DataType>, Vec<i64>, Bytes)>,
    outputs: Vec<(String, Option<usize>, Option<SharedRange>)>,
    priority: u32,
    timeout: Option<Duration>,
    /// The memory of the inputs.
    _charge: Charge,
}

impl OwnedCall {
    /// What is asked for of a model with this specification. More inputs or outputs than it has are checked here, so
    /// that the thread that carries the call out does not have to look at them. `charge` was that of reading the call;
    /// it becomes that of its inputs.
    ///
    /// # Errors
    /// As [`ModelSpec::admit`] and [`ModelSpec::select_outputs`].
    pub fn new(call: Call<'_>, spec: &ModelSpec, mut charge: Charge) -> Result<Self, InferError> {
        if call.inputs.len() > spec.inputs().len() || call.outputs.len() > spec.outputs().len() {
            spec.admit(call.id, call.inputs.clone())?;
            spec.select_outputs(call.id, call.outputs.iter().map(|output| output.name))?;
        }
        charge.release();
        charge.force(call.inputs.iter().map(|input| input.data.len()).sum());
        let inputs = call.inputs.into_iter();
        let outputs = call.outputs.into_iter();
        Ok(Self {
            id: call.id.to_owned(),
            inputs: inputs.map(|input| (input.name.to_owned(), input.data_type, input.shape, input.data)).collect(),
            outputs: outputs.map(|output| (output.name.to_owned(), output.classes, output.shared)).collect(),
            priority: call.priority,
            timeout: call.timeout,
            _charge: charge,
        })
    }

    /// The call of a request whose first byte was received at `started`.
    pub fn call(&self, started: Instant) -> Call<'_> {
        Call {
            id: &self.id,
            inputs: self
                .inputs
                .iter()
                .map(|(name, data_type, shape, data)| SentInput {
                    name,
                    data_type: *data_type,
                    shape: shape.clone(),
                    data: data.clone(),
                })
                .collect(),
            outputs: self
                .outputs
                .iter()
                .map(|(name, classes, shared)| WantedOutput { name, classes: *classes, shared: shared.clone() })
                .collect(),
            priority: self.priority,
            timeout: self.timeout,
            deadline: None,
            started,
            timings: StageTimings::default(),
        }
    }
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
