//! Models made of models: the outputs of one step are the inputs of others.
//!
//! A request to an ensemble is a future: each step is asked as a client would ask its model, as soon as its inputs
//! are there, so steps that do not need each other run side by side. Steps that no wanted output needs are left out.

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

/// What Triton calls the platform of an ensemble.
pub const PLATFORM: &str = "ensemble";

/// Answers requests by the steps of an ensemble.
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
    /// What is wrong, naming step and tensor.
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

    /// Where it runs: wherever its steps do.
    pub fn placement() -> Placement {
        Placement { provider: PLATFORM.to_owned(), nodes: Vec::new(), reason: None, precision: None }
    }

    /// The tensors that are needed for these outputs; a step that makes none of them is not.
    fn needed(&self, wanted: OutputSet) -> HashSet<&str> {
        let outputs = self.outputs.iter().enumerate();
        let mut needed: HashSet<_> =
            outputs.filter(|(index, _)| wanted.contains(*index)).map(|(_, name)| name.as_str()).collect();
        // From the last step to the first: what a step takes is made before it.
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
        let needs = |step: &Step| step.outputs.values().any(|tensor| needed.contains(tensor.as_str()));
        // Found before the first runs: a step that is unloaded meanwhile still answers.
        let steps = self.steps.iter().filter(|step| needs(step));
        let steps = steps.map(|step| Ok((step, catalog.registry().resolve(&step.model, step.version)?)));
        let mut waiting = steps.collect::<Result<Vec<_>, InferError>>()?;
        let inputs = self.inputs.iter().map(String::as_str);
        // `None` is an optional input that the request leaves out, and so do the steps that would take it.
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
                    deadline: None,
                    started: Instant::now(),
                    timings: StageTimings::default(),
                };
                running.push(ask(step, Arc::clone(model), call, &caller));
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
        let made = outputs.filter_map(|(index, name)| Some((index, tensors.get(name.as_str())?.clone()?)));
        Ok(InferResponse { outputs: made.collect(), timings })
    }
}

/// Asks the model of a step.
async fn ask<'a>(
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
            let answered = self.answer(request).await;
            answered.map_err(|error| {
                let words = message::of(&error);
                InferError::new(error.kind(), format_args!("in ensemble '{}', {words}", self.name))
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
