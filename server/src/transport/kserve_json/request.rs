//! Translates an inference request over HTTP to a call: JSON, JSON with binary tensors after it, or one raw tensor.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, header};
use quintet_engine::{DataType, InferError, Model, SentInput, StageTimings};
use quintet_proto::{INFERENCE_HEADER_CONTENT_LENGTH, rest};
use serde_json::{Value, value::RawValue};

use super::parse::parse;
use crate::kserve::{
    Call,
    parameters::{Number, Parameters, REGION, queueing, shared_range, wanted_output},
    shared_memory::{SharedMemory, SharedRange},
};

/// The byte order mark of UTF-8, which some clients put in front of JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Length of the JSON in front of binary tensors; `None` if the whole body is JSON.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a header that is not a number of at least 0.
pub(in crate::transport) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(INFERENCE_HEADER_CONTENT_LENGTH) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.parse::<i64>() {
        Ok(length) => usize::try_from(length).map(Some).map_err(|_| {
            // Triton's text names the length of the body.
            let body = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).unwrap_or("?");
            InferError::invalid(format_args!("inference header size should be in range (0, {body}), got: {length}"))
        }),
        Err(_) => Err(InferError::invalid(format_args!(
            "Inference-Header-Content-Length must be a whole number, got '{text}'"
        ))),
    }
}

/// Splits a body into its JSON, without a byte order mark, and its binary part.
pub(in crate::transport) fn split(body: &Bytes, json_length: Option<usize>) -> Result<(&[u8], Bytes), InferError> {
    let at = json_length.unwrap_or(body.len());
    if at > body.len() {
        return Err(InferError::invalid(format_args!(
            "inference header size should be in range (0, {}), got: {at}",
            body.len()
        )));
    }
    let json = &body[..at];
    Ok((json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json), body.slice(at..)))
}

/// The call of a raw binary request: header length 0 and one tensor, with the shape of the model's configuration.
pub(in crate::transport) fn raw_call(
    model: &Model,
    data: Bytes,
    started: Instant,
    timings: StageTimings,
) -> Result<Call<'_>, InferError> {
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
    // A single dynamic dimension follows from the size of the data, unless one step of it has more bytes than there can be.
    let size = input.data_type.size().unwrap_or(1) as i64;
    let step_bytes = shape.iter().filter(|&&dim| dim >= 0).try_fold(size, |bytes, &dim| bytes.checked_mul(dim));
    let mut dynamic = shape.iter_mut().filter(|dim| **dim < 0);
    if let (Some(dim), None) = (dynamic.next(), dynamic.next())
        && input.data_type != DataType::Bytes
        && let Some(step_bytes) = step_bytes.filter(|&bytes| bytes > 0)
    {
        *dim = data.len() as i64 / step_bytes;
    }
    let inputs = vec![SentInput { name: &input.name, data_type: Some(input.data_type), shape, data }];
    Ok(Call { id: "", inputs, outputs: Vec::new(), priority: 0, timeout: None, deadline: None, started, timings })
}

/// The call of a request in JSON. Its binary tensors are in `binary`.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for wrong tensors and parameters.
pub(in crate::transport) fn json_call<'a>(
    request: &'a rest::InferRequest<'_>,
    binary: &Bytes,
    model: &str,
    started: Instant,
    memory: &SharedMemory,
) -> Result<Call<'a>, InferError> {
    let inputs = sent_inputs(&request.inputs, binary, model, memory)?;
    let outputs = request.outputs.iter().flatten();
    let outputs = outputs.map(|output| wanted_output(&output.name, &Sent(&output.parameters), memory));
    let outputs = outputs.collect::<Result<_, _>>()?;
    let (priority, timeout) = queueing(&Sent(&request.parameters))?;
    Ok(Call {
        id: request.id.as_deref().unwrap_or_default(),
        inputs,
        outputs,
        priority,
        timeout,
        deadline: None,
        started,
        timings: StageTimings::default(),
    })
}

/// The inputs of a request. Those without JSON have their data in `binary`, which must not have more.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for wrong tensors and parameters.
pub(in crate::transport) fn sent_inputs<'a>(
    inputs: &'a [rest::InferInput<'_>],
    binary: &Bytes,
    model: &str,
    memory: &SharedMemory,
) -> Result<Vec<SentInput<'a>>, InferError> {
    let mut binary = Binary { data: binary, at: 0 };
    let sent = inputs.iter().map(|input| sent_input(input, &mut binary, model, memory)).collect::<Result<_, _>>()?;
    let left = binary.left();
    if left > 0 {
        return Err(InferError::invalid(format_args!(
            "unexpected additional input data: {left} bytes after the binary data of the last input"
        )));
    }
    Ok(sent)
}

/// The binary part of a body, which the inputs take one after the other.
struct Binary<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Binary<'_> {
    fn left(&self) -> usize {
        self.data.len() - self.at
    }

    /// The next `size` bytes; `None` if there are fewer.
    fn take(&mut self, size: u64) -> Option<Bytes> {
        let end = usize::try_from(size).ok().and_then(|size| self.at.checked_add(size))?;
        let taken = (end <= self.data.len()).then(|| self.data.slice(self.at..end))?;
        self.at = end;
        Some(taken)
    }
}

/// One input. `binary` has the data that the inputs before it did not take.
fn sent_input<'a>(
    input: &'a rest::InferInput<'_>,
    binary: &mut Binary<'_>,
    model: &str,
    memory: &SharedMemory,
) -> Result<SentInput<'a>, InferError> {
    let name = input.name.as_ref();
    let data_type = DataType::from_name(&input.datatype)
        .ok_or_else(|| InferError::invalid(format_args!("invalid datatype for input {name}")))?;
    let shared = shared_range(name, &Sent(&input.parameters), memory)?;
    if input.shape.iter().any(|&dim| dim < 0) {
        return Err(InferError::invalid(format_args!(
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer (input '{name}')"
        )));
    }
    let size = unsigned(&input.parameters, "binary_data_size").map_err(|error| {
        // As Triton: a negative size is an internal error.
        let negative = input.parameters.get("binary_data_size").and_then(Value::as_i64).is_some_and(|size| size < 0);
        if negative { InferError::internal(error) } else { error }
    })?;
    let data = match (size, input.data, shared) {
        (None, None, Some(shared)) => shared.read(Some(data_type)),
        (None, Some(data), None) => {
            // As Triton: data is ignored if the shape has no elements, or if their number wraps to 0. Admission refuses
            // a wrong shape.
            match input.shape.iter().copied().reduce(i64::wrapping_mul) {
                Some(0) => Bytes::new(),
                Some(count) => parse(name, data_type, data.get(), Some(usize::try_from(count).unwrap_or(usize::MAX)))?,
                // A scalar, or a missing shape: admission knows which.
                None => parse(name, data_type, data.get(), None)?,
            }
        }
        (Some(size), None, None) => binary.take(size).ok_or_else(|| {
            InferError::invalid(format_args!(
                "unexpected size for input '{name}', expecting {} additional bytes for model '{model}'",
                size.saturating_sub(binary.left() as u64)
            ))
        })?,
        (size, data, shared) => return Err(not_one_source(size, data, shared.as_ref())),
    };
    Ok(SentInput { name, data_type: Some(data_type), shape: input.shape.clone(), data })
}

/// The refusal of an input that has no data, or more than one source of data.
fn not_one_source(size: Option<u64>, data: Option<&RawValue>, shared: Option<&SharedRange>) -> InferError {
    let fields = "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
                  'shared_memory_region' in 'parameters'. But";
    let set = [
        (data.is_some(), " 'data'"),
        (size.is_some(), " 'binary_data_size'"),
        (shared.is_some(), " 'shared_memory_region'"),
    ];
    let set: String = set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    if set.is_empty() {
        return InferError::invalid(format_args!("{fields} no field is set"));
    }
    InferError::invalid(format_args!("{fields} set{set}"))
}

/// The parameters in JSON.
struct Sent<'a>(&'a rest::Parameters);

impl Parameters for Sent<'_> {
    fn number(&self, number: Number<'_>) -> Result<Option<u64>, InferError> {
        unsigned(self.0, number.name())
    }

    fn region(&self, _: &str) -> Result<Option<&str>, InferError> {
        let Some(region) = self.0.get(REGION) else { return Ok(None) };
        region.as_str().map(Some).ok_or_else(|| {
            InferError::invalid("Unable to parse 'shared_memory_region': attempt to access JSON non-string as string")
        })
    }
}

fn unsigned(parameters: &rest::Parameters, name: &str) -> Result<Option<u64>, InferError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| {
        InferError::invalid(format_args!(
            "Unable to parse '{name}': attempt to access JSON non-unsigned-integer as unsigned-integer"
        ))
    })
}

fn boolean(parameters: &rest::Parameters, name: &str) -> Result<Option<bool>, InferError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| {
        InferError::invalid(format_args!("Unable to parse '{name}': attempt to access JSON non-boolean as boolean"))
    })
}

/// Which outputs are sent as binary data.
pub(in crate::transport) struct OutputForm {
    by_default: bool,
    named: Vec<(String, bool)>,
}

impl OutputForm {
    /// All outputs as binary data.
    pub(in crate::transport) fn all_binary() -> Self {
        Self { by_default: true, named: Vec::new() }
    }

    /// All outputs in JSON.
    pub(in crate::transport) fn all_json() -> Self {
        Self { by_default: false, named: Vec::new() }
    }

    /// The form that a request asks for.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for a parameter of a wrong type.
    pub(in crate::transport) fn requested(request: &rest::InferRequest<'_>) -> Result<Self, InferError> {
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

    /// Whether the output called `name` is sent as binary data.
    pub(in crate::transport) fn is_binary(&self, name: &str) -> bool {
        self.named.iter().find(|(named, _)| named == name).map_or(self.by_default, |(_, binary)| *binary)
    }
}
