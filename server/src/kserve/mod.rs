//! KServe v2 without its transports: what a request asks for, carried out, whoever carried it here.

pub mod classify;
pub mod message;
pub mod shared_memory;
pub mod statistics;
pub mod trace;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::Either;
use quintet_engine::{
    DataType, InferError, InferRequest, Model, ModelSpec, OutputMemory, SentInput, Shape, StageTimings, Tensor,
};
use tokio::time::timeout_at;

use self::{
    shared_memory::SharedRange,
    trace::{StepTraces, Trace},
};
use crate::service::Service;

/// The extensions that work, as `GET /v2` and `ServerMetadata` list them.
pub fn extensions(service: &Service) -> Vec<String> {
    let shared_memory = service.shared_memory().is_allowed().then_some("system_shared_memory");
    let repository = service.repository().is_some_and(|repository| repository.is_controlled());
    let repository = repository.then_some(["model_repository", "model_repository(unload_dependents)"]);
    let repository = repository.into_iter().flatten();
    ["classification"]
        .into_iter()
        .chain(repository)
        .chain(["schedule_policy", "model_configuration"])
        .chain(shared_memory)
        .chain(["binary_tensor_data", "parameters", "statistics", "trace", "logging"])
        .map(Into::into)
        .collect()
}

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
    /// When its client stops waiting, where the transport tells.
    pub deadline: Option<Instant>,
    /// When the server had its first byte.
    pub started: Instant,
    /// Stage times so far.
    pub timings: StageTimings,
}

tokio::task_local! {
    static CALLER: Caller;
}

/// What an ensemble hands on to its steps of the request that it answers.
#[derive(Clone, Default)]
pub struct Caller {
    /// The client's name for the request; empty if it has none.
    pub id: String,
    /// For the traces of the steps, if the request is traced.
    pub traces: Option<StepTraces>,
}

impl Caller {
    /// Of the request that is being answered here.
    pub fn current() -> Self {
        CALLER.try_with(Clone::clone).unwrap_or_default()
    }
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

/// Carries a call out, and notes in its trace, if it has one, what becomes of it.
///
/// # Errors
/// Whatever admission, queue or backend refuse; failures are counted with the model.
pub async fn infer(model: Arc<Model>, call: Call<'_>, mut trace: Option<&mut Trace>) -> Result<Answer, InferError> {
    if let Some(trace) = &mut trace {
        trace.begun(call.id);
    }
    let outcome = carry_out(model, call, trace.as_deref_mut()).await;
    if let Some(trace) = trace {
        trace.ended();
    }
    outcome
}

async fn carry_out(model: Arc<Model>, call: Call<'_>, mut trace: Option<&mut Trace>) -> Result<Answer, InferError> {
    let spec = Arc::clone(model.spec());
    let named = call.outputs.iter().map(|output| output.name);
    let admitted = spec
        .admit(call.id, call.inputs)
        .and_then(|inputs| Ok((inputs, spec.select_outputs(call.id, named)?)))
        .map_err(InferError::from);
    let ((inputs, rows), outputs) = admitted.inspect_err(|error| model.refused(error.kind()))?;
    let queued = Instant::now();
    if let Some(trace) = &mut trace {
        let named = spec.inputs().iter().zip(&inputs);
        trace.queued(named.filter_map(|(input, tensor)| Some((input.name.as_str(), tensor.as_ref()?))));
    }
    let request = InferRequest {
        started: call.started,
        inputs,
        rows,
        outputs,
        output_memory: output_memory(&spec, &call.outputs),
        priority: call.priority,
        deadline: call.timeout.and_then(|timeout| queued.checked_add(timeout)),
        timings: call.timings,
    };
    let run = model.infer(request);
    let run = match model.is_composite() {
        true => {
            let traces = trace.as_deref_mut().map(Trace::steps);
            Either::Left(CALLER.scope(Caller { id: call.id.to_owned(), traces }, run))
        }
        false => Either::Right(run),
    };
    let response = match call.deadline {
        // The client does not wait any longer: dropping the future takes the request out of the queue, or stops its run.
        Some(deadline) => timeout_at(deadline.into(), run).await.unwrap_or(Err(InferError::DeadlineExceeded))?,
        None => run.await?,
    };
    if let Some(trace) = trace {
        // An ensemble does not compute: its steps do.
        if !model.is_composite() {
            trace.ran(queued, &response.timings);
        }
        let outputs = response.outputs.iter();
        let named = outputs.filter_map(|(index, tensor)| Some((spec.outputs().get(*index)?.name.as_str(), tensor)));
        trace.answered(named);
    }
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for (index, tensor) in response.outputs {
        let Some(output) = spec.outputs().get(index) else { continue };
        let wanted = call.outputs.iter().find(|wanted| wanted.name == output.name);
        let tensor = match wanted.and_then(|output| output.classes) {
            Some(classes) => classify::top(&tensor, spec.batches(), classes, output.labels.as_deref())?,
            None => tensor,
        };
        let shared = wanted.and_then(|output| output.shared.clone());
        if let Some(place) = &shared {
            place.write(&output.name, tensor.data())?;
        }
        outputs.push(AnsweredOutput { name: output.name.clone(), tensor, shared });
    }
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Answer { model, outputs, timings: response.timings })
}

/// Where outputs may be written by the model itself. Classes are made of an output that is elsewhere, and where two
/// regions share memory an output could be written over an input.
fn output_memory(spec: &ModelSpec, wanted: &[WantedOutput<'_>]) -> Vec<(usize, Arc<dyn OutputMemory>)> {
    let place = |wanted: &WantedOutput<'_>| {
        let range = wanted.shared.clone().filter(|range| range.is_alone() && wanted.classes.is_none())?;
        let index = spec.outputs().iter().position(|output| output.name == wanted.name)?;
        Some((index, Arc::new(range) as Arc<dyn OutputMemory>))
    };
    wanted.iter().filter_map(place).collect()
}

/// The model that a path or message names; an empty version is the latest one.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a version that is no number, else as [`quintet_engine::Registry::resolve`].
pub fn resolve(service: &Service, name: &str, version: &str) -> Result<Arc<Model>, InferError> {
    let version = match version {
        "" => None,
        text => Some(parse_version(text)?),
    };
    Ok(service.registry().resolve(name, version)?)
}

fn parse_version(text: &str) -> Result<u64, InferError> {
    let refused = |details: &str| {
        InferError::invalid(format_args!(
            "failed to get model version from specified version string '{text}'{details}, version should be an integral \
             value > 0"
        ))
    };
    match text.parse::<i64>() {
        Ok(number) => u64::try_from(number).ok().filter(|&version| version > 0).ok_or_else(|| refused("")),
        Err(_) => Err(refused(" (details: stol)")),
    }
}

/// A BYTES tensor of these elements.
///
/// # Errors
/// When the shape does not have as many elements.
pub fn bytes_tensor<T: AsRef<[u8]>>(shape: Shape, elements: impl IntoIterator<Item = T>) -> Result<Tensor, InferError> {
    Tensor::new(DataType::Bytes, shape, quintet_proto::elements::encode(elements)).map_err(InferError::internal)
}

/// What metadata calls a model's platform: as Triton does, the backend where the platform has no name.
pub fn platform(service: &Service, model: &Model) -> String {
    let config = service.config(model).unwrap_or_default();
    match (config.platform.as_str(), config.backend.as_str()) {
        ("", "" | "onnxruntime") => "onnxruntime_onnx".to_owned(),
        ("", backend) => backend.to_owned(),
        (platform, _) => platform.to_owned(),
    }
}
