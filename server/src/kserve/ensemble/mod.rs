//! Ensembles: models made of models, where the outputs of one step are the inputs of others.
//!
//! A step runs as soon as its inputs exist, as a client's request to its model would, so steps that do not depend on
//! each other run side by side. Steps that no wanted output depends on do not run.

mod plan;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Instant,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use quintet_engine::{
    Composite, InferError, InferFuture, InferRequest, InferResponse, Model, ModelSpec, OutputSet, Placement, SentInput,
    StageTimings, Tensor, TensorSpec,
};
use quintet_proto::inference::model_ensembling;

use self::plan::{Step, plan};
use crate::{
    catalog::Catalog,
    kserve::{
        call::{Answer, Call, WantedOutput},
        caller::Caller,
        infer::infer,
        message,
    },
};

tokio::task_local! {
    /// How many ensembles the one that answers now is within, itself included.
    static DEPTH: usize;
}

/// How many ensembles may be within each other. No load makes a ring of them; if one did, its requests would never end.
const MAX_DEPTH: usize = 16;

/// Triton's platform name for an ensemble.
pub const PLATFORM: &str = "ensemble";

/// An ensemble whose steps fit together.
pub struct Ensemble {
    catalog: Weak<Catalog>,
    name: String,
    steps: Vec<Step>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Ensemble {
    /// Checks `steps` against the models in service.
    ///
    /// # Errors
    /// The first mismatch, with its step and tensor.
    pub fn new(spec: &ModelSpec, steps: &[model_ensembling::Step], catalog: &Arc<Catalog>) -> Result<Self, String> {
        let model = |step: &Step| {
            let model = catalog.registry().resolve(&step.model, step.version)?;
            Ok(Arc::clone(model.spec()))
        };
        let names = |tensors: &[TensorSpec]| tensors.iter().map(|tensor| tensor.name.clone()).collect();
        Ok(Self {
            catalog: Arc::downgrade(catalog),
            name: spec.name().to_owned(),
            steps: plan(spec, steps, model)?,
            inputs: names(spec.inputs()),
            outputs: names(spec.outputs()),
        })
    }

    /// The placement of an ensemble. It has no nodes of its own: each step runs where its model runs.
    pub fn placement() -> Placement {
        Placement { provider: PLATFORM.to_owned(), nodes: Vec::new(), device: None, reason: None, precision: None }
    }

    /// The tensors that these outputs depend on.
    fn needed(&self, wanted: OutputSet) -> HashSet<&str> {
        let outputs = self.outputs.iter().enumerate();
        let mut needed: HashSet<_> =
            outputs.filter(|(index, _)| wanted.contains(*index)).map(|(_, name)| name.as_str()).collect();
        // From last to first: the inputs of a step are outputs of earlier steps.
        for step in self.steps.iter().rev() {
            if step.outputs.values().any(|tensor| needed.contains(tensor.as_str())) {
                needed.extend(step.inputs.values().map(String::as_str));
            }
        }
        needed
    }

    async fn answer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let catalog = self.catalog.upgrade().ok_or_else(|| InferError::internal("the service has ended"))?;
        let needed = self.needed(request.outputs);
        let is_needed = |step: &Step| step.outputs.values().any(|tensor| needed.contains(tensor.as_str()));
        // Resolve all models before the first step runs: a model that is unloaded meanwhile still answers.
        let steps = self.steps.iter().filter(|step| is_needed(step));
        let steps = steps.map(|step| Ok((step, catalog.registry().resolve(&step.model, step.version)?)));
        let mut waiting = steps.collect::<Result<Vec<_>, InferError>>()?;
        let inputs = self.inputs.iter().map(String::as_str);
        // `None` is an optional input that the request leaves out; the steps leave it out too.
        let mut tensors: HashMap<&str, Option<Tensor>> = inputs.zip(request.inputs).collect();
        let mut timings = request.timings;
        let caller = Caller::current();
        let mut running = FuturesUnordered::new();
        loop {
            waiting.retain(|(step, model)| {
                let sent =
                    step.inputs.iter().map(|(name, tensor)| Some((name.as_str(), tensors.get(tensor.as_str())?)));
                let Some(sent) = sent.collect::<Option<Vec<_>>>() else { return true };
                let given = sent.into_iter().filter_map(|(name, tensor)| Some((name, tensor.clone()?)));
                let inputs = given.map(|(name, tensor)| sent_input(name, tensor)).collect();
                let outputs = step.outputs.iter().filter(|(_, tensor)| needed.contains(tensor.as_str()));
                let call = Call {
                    id: &caller.id,
                    inputs,
                    outputs: outputs.map(|(name, _)| WantedOutput { name, classes: None, shared: None }).collect(),
                    priority: request.priority,
                    timeout: request.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
                    deadline: request.client_deadline,
                    started: Instant::now(),
                    timings: StageTimings::default(),
                };
                running.push(run_step(step, Arc::clone(model), call, &caller));
                false
            });
            let Some(answered) = running.next().await else { break };
            let (step, answer) = answered?;
            for (stage, time) in answer.timings.iter() {
                timings[stage] += time;
            }
            for output in answer.outputs {
                if let Some(name) = step.outputs.get(&output.name) {
                    tensors.insert(name, Some(output.tensor));
                }
            }
        }
        let outputs = self.outputs.iter().enumerate().filter(|(index, _)| request.outputs.contains(*index));
        let outputs = outputs.filter_map(|(index, name)| Some((index, tensors.get(name.as_str())?.clone()?)));
        Ok(InferResponse { outputs: outputs.collect(), timings })
    }
}

/// Runs one step: a call of its model, with a trace if the client's request has one.
async fn run_step<'a>(
    step: &'a Step,
    model: Arc<Model>,
    call: Call<'_>,
    caller: &Caller,
) -> Result<(&'a Step, Answer), InferError> {
    let mut trace = caller.traces.as_ref().map(|traces| traces.begin(model.spec()));
    let outcome = infer(model, call, trace.as_mut()).await;
    if let (Some(trace), Err(error)) = (&mut trace, &outcome) {
        trace.failed(error);
    }
    Ok((step, outcome?))
}

fn sent_input(name: &str, tensor: Tensor) -> SentInput<'_> {
    let (data_type, shape, data) = tensor.into_parts();
    let shape = shape.dims().iter().map(|&dim| dim as i64).collect();
    SentInput { name, data_type: Some(data_type), shape, data }
}

impl Composite for Ensemble {
    fn infer(&self, request: InferRequest) -> InferFuture<'_> {
        Box::pin(async move {
            let depth = DEPTH.try_with(|depth| depth + 1).unwrap_or(1);
            if depth > MAX_DEPTH {
                let message =
                    format_args!("ensemble '{}' is within {MAX_DEPTH} others; at most that many may be", self.name);
                return Err(InferError::internal(message));
            }
            let answered = DEPTH.scope(depth, self.answer(request)).await;
            answered.map_err(|error| {
                let message = message::for_client(&error);
                InferError::new(error.kind(), format_args!("in ensemble '{}', {message}", self.name))
            })
        })
    }

    fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        let Some(catalog) = self.catalog.upgrade() else { return false };
        self.steps.iter().all(|step| {
            let model = catalog.registry().resolve(&step.model, step.version);
            model.is_ok_and(|model| model.generations(found))
        })
    }

    fn is_current(&self) -> bool {
        let Some(catalog) = self.catalog.upgrade() else { return false };
        let same = |step: &Step| {
            let model = catalog.registry().resolve(&step.model, step.version);
            model.is_ok_and(|model| step.checked.as_ref() == Some(model.spec()))
        };
        self.steps.iter().all(same)
    }
}
