//! `POST /v2/models/{model}/infer`: JSON, JSON with binary tensors behind it, or one raw tensor.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use quintet_engine::{DataType, InferError, Model, SentInput, Stage, StageTimings};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    rest::{self, Parameters},
};
use serde_json::{Value, value::RawValue};

use super::{
    body::{self, Chunks},
    json, metadata, plain,
    reply::{self, Failure},
};
use crate::{
    kserve::{
        self, Answer, AnsweredOutput, Call, WantedOutput,
        shared_memory::{self, SharedMemory, SharedRange},
        trace::{Arrival, Carrier, Trace},
    },
    service::Service,
    transport::{encoding::Encoding, traced},
};

/// Carries out an inference request.
pub(super) async fn infer(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, sent) = request.into_parts();
    let started = plain::arrived(&head.extensions);
    let json_length = json_length(&head.headers)?;
    let limits = service.limits();
    let accepted = Encoding::for_answer(&head.headers);
    let body = body::receive(&head.headers, sent, json_length.unwrap_or(0), limits.max_input, service.pool()).await?;
    let received = Instant::now();
    let mut timings = StageTimings::default();
    timings[Stage::Receive] = received - started;

    let model = metadata::find(&service, &path)?;
    let arrival = Arrival { carrier: Carrier::Http, started, received, headers: &head.headers };
    let mut trace = service.traces().begin(model.spec(), arrival);
    let read = Read { body, json_length, started, received, timings };
    let outcome = carry_out(&service, model, read, accepted, trace.as_mut()).await;
    Ok(traced::send(outcome.map_err(|Failure(error)| error), trace, |error| Failure(error).into_response(), Body::new))
}

/// A request that was read.
struct Read {
    body: Bytes,
    json_length: Option<usize>,
    /// When its first byte was there, and its last.
    started: Instant,
    received: Instant,
    timings: StageTimings,
}

async fn carry_out(
    service: &Service,
    model: Arc<Model>,
    read: Read,
    accepted: Option<Encoding>,
    trace: Option<&mut Trace>,
) -> Result<Response, Failure> {
    let Read { body, json_length, started, received, mut timings } = read;
    let (json, binary) = split(&body, json_length)?;
    let refused = |error: InferError| {
        model.refused(error.kind());
        error
    };
    if json_length == Some(0) {
        let call = raw_call(&model, binary, started, timings).map_err(refused)?;
        let binary = OutputForm { by_default: true, named: Vec::new() };
        return answer(kserve::infer(Arc::clone(&model), call, trace).await?, "", &binary, accepted).await;
    }
    let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let parsed: rest::InferRequest<'_> = serde_json::from_slice(json).map_err(|error| {
        refused(InferError::invalid(format_args!("failed to parse the request JSON buffer: {error}")))
    })?;
    let form = OutputForm::of(&parsed).map_err(refused)?;
    let mut call =
        json_call(&parsed, &binary, model.spec().name(), started, service.shared_memory()).map_err(refused)?;
    timings[Stage::Parse] = received.elapsed();
    call.timings = timings;
    let id = call.id;
    answer(kserve::infer(Arc::clone(&model), call, trace).await?, id, &form, accepted).await
}

/// What some editors and languages put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Length of the JSON in front of binary tensors; `None` where the whole body is JSON.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(INFERENCE_HEADER_CONTENT_LENGTH) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.parse::<i64>() {
        Ok(length) => usize::try_from(length).map(Some).map_err(|_| {
            // The body's length is Content-Length's; Triton's words name it.
            let body = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).unwrap_or("?");
            InferError::invalid(format_args!("inference header size should be in range (0, {body}), got: {length}"))
        }),
        Err(_) => Err(InferError::invalid(format_args!(
            "Inference-Header-Content-Length must be a whole number, got '{text}'"
        ))),
    }
}

/// The JSON and the binary part of a body.
fn split(body: &Bytes, json_length: Option<usize>) -> Result<(&[u8], Bytes), InferError> {
    let at = json_length.unwrap_or(body.len());
    if at > body.len() {
        return Err(InferError::invalid(format_args!(
            "inference header size should be in range (0, {}), got: {at}",
            body.len()
        )));
    }
    Ok((&body[..at], body.slice(at..)))
}

/// A raw request: header length 0 and one tensor, whose shape follows from the model's configuration.
fn raw_call(model: &Model, data: Bytes, started: Instant, timings: StageTimings) -> Result<Call<'_>, InferError> {
    let spec = model.spec();
    let [input] = spec.inputs() else {
        return Err(InferError::invalid(format_args!(
            "[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be deduced but got {} inputs in \
             '{}' model configuration",
            spec.inputs().len(),
            spec.name()
        )));
    };
    let mut shape = input.announced_shape(spec.batches());
    if spec.batches() {
        shape[0] = 1;
    }
    // One dynamic dimension can be told from the size.
    let known: i64 = shape.iter().filter(|&&dim| dim >= 0).product();
    let size = input.data_type.size().unwrap_or(1) as i64;
    let mut dynamic = shape.iter_mut().filter(|dim| **dim < 0);
    if let (Some(dim), None) = (dynamic.next(), dynamic.next())
        && input.data_type != DataType::Bytes
        && known > 0
    {
        *dim = data.len() as i64 / (known * size);
    }
    let inputs = vec![SentInput { name: &input.name, data_type: Some(input.data_type), shape, data }];
    Ok(Call { id: "", inputs, outputs: Vec::new(), priority: 0, timeout: None, deadline: None, started, timings })
}

fn json_call<'a>(
    request: &'a rest::InferRequest<'_>,
    binary: &Bytes,
    model: &str,
    started: Instant,
    memory: &SharedMemory,
) -> Result<Call<'a>, InferError> {
    let mut at = 0;
    let inputs = request
        .inputs
        .iter()
        .map(|input| sent_input(input, binary, model, &mut at, memory))
        .collect::<Result<_, _>>()?;
    if at < binary.len() {
        return Err(InferError::invalid(format_args!(
            "unexpected additional input data: {} bytes behind the last input's binary_data_size",
            binary.len() - at
        )));
    }
    let outputs =
        request.outputs.iter().flatten().map(|output| wanted_output(output, memory)).collect::<Result<_, _>>()?;
    let priority = unsigned(&request.parameters, "priority")?.unwrap_or(0);
    let timeout = unsigned(&request.parameters, "timeout")?.filter(|&us| us > 0).map(Duration::from_micros);
    Ok(Call {
        id: request.id.as_deref().unwrap_or_default(),
        inputs,
        outputs,
        priority: u32::try_from(priority).unwrap_or(u32::MAX),
        timeout,
        deadline: None,
        started,
        timings: StageTimings::default(),
    })
}

fn wanted_output<'a>(
    output: &'a rest::RequestedOutput<'_>,
    memory: &SharedMemory,
) -> Result<WantedOutput<'a>, InferError> {
    let classes = unsigned(&output.parameters, "classification")?.filter(|&classes| classes > 0);
    Ok(WantedOutput {
        name: &output.name,
        classes: classes.map(|classes| usize::try_from(classes).unwrap_or(usize::MAX)),
        shared: shared_range(&output.name, &output.parameters, memory)?,
    })
}

/// One input; `at` is how much of the binary part the inputs before it have taken.
fn sent_input<'a>(
    input: &'a rest::InferInput<'_>,
    binary: &Bytes,
    model: &str,
    at: &mut usize,
    memory: &SharedMemory,
) -> Result<SentInput<'a>, InferError> {
    let name = input.name.as_ref();
    let data_type = DataType::from_name(&input.datatype)
        .ok_or_else(|| InferError::invalid(format_args!("invalid datatype for input {name}")))?;
    let shared = shared_range(name, &input.parameters, memory)?;
    if input.shape.iter().any(|&dim| dim < 0) {
        return Err(InferError::invalid(format_args!(
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer (input '{name}')"
        )));
    }
    let size = unsigned(&input.parameters, "binary_data_size").map_err(|error| {
        // Triton calls a negative size a failure of its own, and its clients have to live with that.
        let negative = input.parameters.get("binary_data_size").and_then(Value::as_i64).is_some_and(|size| size < 0);
        if negative { InferError::internal(error) } else { error }
    })?;
    let fields = "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
                  'shared_memory_region' in 'parameters'. But";
    let data = match (size, input.data, shared) {
        (None, None, None) => return Err(InferError::invalid(format_args!("{fields} no field is set"))),
        (None, None, Some(shared)) => shared.read(Some(data_type)),
        (None, Some(data), None) => {
            // A shape without elements (or with so many that their count wraps, as Triton's does) takes no
            // data; what is wrong with it, admission says.
            match input.shape.iter().copied().reduce(i64::wrapping_mul).unwrap_or(0) {
                0 => Bytes::new(),
                count => json::parse(name, data_type, data.get(), usize::try_from(count).unwrap_or(usize::MAX))?,
            }
        }
        (Some(size), None, None) => {
            let end =
                usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= binary.len());
            let Some(end) = end else {
                return Err(InferError::invalid(format_args!(
                    "unexpected size for input '{name}', expecting {} additional bytes for model '{model}'",
                    size.saturating_sub((binary.len() - *at) as u64)
                )));
            };
            let data = binary.slice(*at..end);
            *at = end;
            data
        }
        (size, data, shared) => {
            let set = [
                (data.is_some(), " 'data'"),
                (size.is_some(), " 'binary_data_size'"),
                (shared.is_some(), " 'shared_memory_region'"),
            ];
            let set: String = set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
            return Err(InferError::invalid(format_args!("{fields} set{set}")));
        }
    };
    Ok(SentInput { name, data_type: Some(data_type), shape: input.shape.clone(), data })
}

/// Where in shared memory a tensor is, if it is there.
fn shared_range(
    tensor: &str,
    parameters: &Parameters,
    memory: &SharedMemory,
) -> Result<Option<SharedRange>, InferError> {
    let Some(region) = parameters.get("shared_memory_region") else { return Ok(None) };
    let region = region.as_str().ok_or_else(|| {
        InferError::invalid("Unable to parse 'shared_memory_region': attempt to access JSON non-string as string")
    })?;
    let offset = unsigned(parameters, "shared_memory_offset")?.unwrap_or(0);
    let byte_size =
        unsigned(parameters, "shared_memory_byte_size")?.ok_or_else(|| shared_memory::without_size(tensor))?;
    memory.range(region, offset, byte_size).map(Some)
}

fn unsigned(parameters: &Parameters, name: &str) -> Result<Option<u64>, InferError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| {
        InferError::invalid(format_args!(
            "Unable to parse '{name}': attempt to access JSON non-unsigned-integer as unsigned-integer"
        ))
    })
}

fn boolean(parameters: &Parameters, name: &str) -> Result<Option<bool>, InferError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| {
        InferError::invalid(format_args!("Unable to parse '{name}': attempt to access JSON non-boolean as boolean"))
    })
}

/// Which outputs go out as binary data.
struct OutputForm {
    by_default: bool,
    named: Vec<(String, bool)>,
}

impl OutputForm {
    fn of(request: &rest::InferRequest<'_>) -> Result<Self, InferError> {
        for (name, value) in &request.parameters {
            if !matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_)) {
                return Err(InferError::invalid(format_args!(
                    "parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
                )));
            }
        }
        let by_default = boolean(&request.parameters, "binary_data_output")?.unwrap_or(false);
        let mut named = Vec::new();
        for output in request.outputs.iter().flatten() {
            if let Some(binary) = boolean(&output.parameters, "binary_data")? {
                named.push((output.name.clone().into_owned(), binary));
            }
        }
        Ok(Self { by_default, named })
    }

    fn is_binary(&self, name: &str) -> bool {
        self.named.iter().find(|(named, _)| named == name).map_or(self.by_default, |(_, binary)| *binary)
    }
}

/// Writes the answer: JSON, with the binary outputs behind it as they are.
async fn answer(answer: Answer, id: &str, form: &OutputForm, accepted: Option<Encoding>) -> Result<Response, Failure> {
    let encoding = Instant::now();
    let mut binary = Vec::new();
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for AnsweredOutput { name, tensor, shared } in &answer.outputs {
        let mut parameters = Parameters::new();
        // In shared memory it has no parameters: Triton's C++ client takes any for those of binary data.
        let data = if shared.is_some() {
            None
        } else if form.is_binary(name) {
            parameters.insert("binary_data_size".into(), tensor.data().len().into());
            binary.push(tensor.data().clone());
            None
        } else {
            let text = RawValue::from_string(json::print(tensor)?).map_err(InferError::internal)?;
            Some(Cow::Owned(text))
        };
        outputs.push(rest::InferOutput {
            name: name.into(),
            datatype: tensor.data_type().name().into(),
            shape: tensor.shape().dims().iter().map(|&dim| dim as i64).collect(),
            parameters,
            data,
        });
    }
    let spec = answer.model.spec();
    let json = serde_json::to_vec(&rest::InferResponse {
        id: (!id.is_empty()).then(|| id.into()),
        model_name: spec.name().into(),
        model_version: spec.version().to_string().into(),
        outputs,
    })
    .map_err(InferError::internal)?;
    let json_length = json.len();
    let is_binary = !binary.is_empty();
    let parts = [Bytes::from(json)].into_iter().chain(binary);
    let body = match accepted {
        None => Body::new(Chunks::new(parts)),
        Some(encoding) => Body::from(encoding.encode(parts.collect()).await?),
    };
    let mut response = Response::new(body);
    if let Some(encoding) = accepted {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    *response.status_mut() = StatusCode::OK;
    let content_type = if is_binary { "application/octet-stream" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_binary {
        response
            .headers_mut()
            .insert(HeaderName::from_static(INFERENCE_HEADER_CONTENT_LENGTH), HeaderValue::from(json_length));
    }
    let mut timings = answer.timings;
    timings[Stage::Encode] = encoding.elapsed();
    Ok(reply::with_timing(response, &timings))
}
