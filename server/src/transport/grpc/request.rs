//! A `ModelInferRequest` as a call: tensors, outputs, parameters, with Triton's rules and words.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, SentInput, StageTimings};
use quintet_proto::inference::{
    InferParameter, ModelInferRequest,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};

use super::contents;
use crate::kserve::{
    Call, WantedOutput,
    shared_memory::{self, SharedMemory, SharedRange},
};

type Parameters = HashMap<String, InferParameter>;

/// What a message asks for. Raw tensors are slices of the buffer that it was decoded from.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for tensors without data and parameters of the wrong type,
/// and as [`SharedMemory::range`].
pub(super) fn call<'a>(request: &'a ModelInferRequest, memory: &SharedMemory) -> Result<Call<'a>, InferError> {
    let (priority, timeout) = parameters(&request.parameters)?;
    let mut raw = request.raw_input_contents.iter();
    let inputs =
        request.inputs.iter().map(|input| sent_input(request, input, &mut raw, memory)).collect::<Result<_, _>>()?;
    if raw.len() > 0 {
        return Err(InferError::invalid(format_args!(
            "model '{}' was sent {} raw_input_contents for {} inputs: send one for each input",
            request.model_name,
            request.raw_input_contents.len(),
            request.inputs.len()
        )));
    }
    let outputs = request.outputs.iter().map(|output| wanted_output(output, memory)).collect::<Result<_, _>>()?;
    Ok(Call {
        id: &request.id,
        inputs,
        outputs,
        priority,
        timeout,
        deadline: None,
        started: Instant::now(),
        timings: StageTimings::default(),
    })
}

/// `priority` and `timeout` (µs).
fn parameters(parameters: &Parameters) -> Result<(u32, Option<Duration>), InferError> {
    let (mut priority, mut timeout) = (0, None);
    for (name, value) in parameters {
        let expected = match (name.as_str(), &value.parameter_choice) {
            // No client may count on what only Triton's own backends give a meaning.
            (name, _) if name.starts_with("triton_") && name != "triton_enable_empty_final_response" => {
                return Err(InferError::invalid(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
                ));
            }
            ("priority", Some(ParameterChoice::Int64Param(value))) => {
                priority = u32::try_from(*value).unwrap_or(if *value < 0 { 0 } else { u32::MAX });
                continue;
            }
            ("priority", Some(ParameterChoice::Uint64Param(value))) => {
                priority = u32::try_from(*value).unwrap_or(u32::MAX);
                continue;
            }
            ("priority", _) => "int64_param or uint64_param",
            ("timeout", Some(ParameterChoice::Int64Param(value))) => {
                timeout = u64::try_from(*value).ok().filter(|&us| us > 0).map(Duration::from_micros);
                continue;
            }
            ("timeout", _) => "int64_param",
            ("sequence_id", Some(ParameterChoice::Int64Param(_) | ParameterChoice::StringParam(_))) => continue,
            ("sequence_id", _) => "int64_param or string_param",
            ("sequence_start" | "sequence_end", Some(ParameterChoice::BoolParam(_))) => continue,
            ("sequence_start" | "sequence_end", _) => "bool_param",
            (_, Some(_)) => continue,
            (_, None) => "bool_param, int64_param, or string_param",
        };
        return Err(InferError::invalid(format_args!(
            "invalid value type for '{name}' parameter, expected {expected}."
        )));
    }
    Ok((priority, timeout))
}

/// One input; `raw` holds the raw tensors that the inputs before it have left.
fn sent_input<'a>(
    request: &ModelInferRequest,
    input: &'a InferInputTensor,
    raw: &mut std::slice::Iter<'_, Bytes>,
    memory: &SharedMemory,
) -> Result<SentInput<'a>, InferError> {
    let (name, model) = (&input.name, &request.model_name);
    let data_type = DataType::from_name(&input.datatype);
    let sent = |data| Ok(SentInput { name, data_type, shape: input.shape.clone(), data });
    if let Some(place) = shared_range(name, &input.parameters, memory)? {
        if input.contents.is_some() {
            return Err(InferError::invalid(format_args!(
                "unexpected 'contents' provided when using shared memory for input tensor '{name}' for model '{model}'"
            )));
        }
        return sent(place.read(data_type));
    }
    let data = match (&input.contents, raw.next()) {
        (Some(_), Some(_)) => {
            return Err(InferError::invalid(format_args!(
                "contents field must not be specified when using raw_input_contents for '{name}' for model '{model}'"
            )));
        }
        (Some(contents), None) => contents::to_bytes(input, contents, model)?,
        (None, Some(data)) => data.clone(),
        (None, None) => {
            return Err(InferError::invalid(format_args!(
                "unable to find data for input tensor '{name}' for model '{model}' in request."
            )));
        }
    };
    sent(data)
}

/// Where in shared memory a tensor is, if it is there.
fn shared_range(
    tensor: &str,
    parameters: &Parameters,
    memory: &SharedMemory,
) -> Result<Option<SharedRange>, InferError> {
    let wrong = |name: &str, expected: &str| {
        InferError::invalid(format_args!(
            "invalid value type for '{name}' parameter for tensor '{tensor}', expected {expected}."
        ))
    };
    let number = |name: &str| match parameters.get(name).map(|value| &value.parameter_choice) {
        None => Ok(None),
        Some(Some(ParameterChoice::Int64Param(value))) => {
            u64::try_from(*value).map(Some).map_err(|_| wrong(name, "a number of at least 0"))
        }
        Some(Some(ParameterChoice::Uint64Param(value))) => Ok(Some(*value)),
        Some(_) => Err(wrong(name, "int64_param")),
    };
    let region = match parameters.get("shared_memory_region").map(|value| &value.parameter_choice) {
        None => return Ok(None),
        Some(Some(ParameterChoice::StringParam(region))) => region,
        Some(_) => return Err(wrong("shared_memory_region", "string_param")),
    };
    let offset = number("shared_memory_offset")?.unwrap_or(0);
    let byte_size = number("shared_memory_byte_size")?.ok_or_else(|| shared_memory::without_size(tensor))?;
    memory.range(region, offset, byte_size).map(Some)
}

fn wanted_output<'a>(
    output: &'a InferRequestedOutputTensor,
    memory: &SharedMemory,
) -> Result<WantedOutput<'a>, InferError> {
    let classes = match output.parameters.get("classification").map(|value| &value.parameter_choice) {
        None => None,
        Some(Some(ParameterChoice::Int64Param(count))) => {
            let count = usize::try_from(*count).ok().filter(|&count| count > 0);
            Some(
                count.ok_or_else(|| {
                    InferError::invalid("invalid value for 'classification' parameter, expected >= 0")
                })?,
            )
        }
        Some(_) => {
            return Err(InferError::invalid("invalid value type for 'classification' parameter, expected int64_param"));
        }
    };
    let shared = shared_range(&output.name, &output.parameters, memory)?;
    Ok(WantedOutput { name: &output.name, classes, shared })
}
