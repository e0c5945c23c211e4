//! A `ModelInferRequest` as a call: tensors, outputs, parameters, with Triton's rules and words.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, StageTimings, admit::SentInput};
use quintet_proto::inference::{
    InferParameter, ModelInferRequest,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};

use super::contents;
use crate::kserve::{self, Call, WantedOutput};

type Parameters = HashMap<String, InferParameter>;

/// What a message asks for. Raw tensors are slices of the buffer that it was decoded from.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for tensors without data and parameters of the wrong type,
/// [`quintet_engine::ErrorKind::Unsupported`] for shared memory.
pub(super) fn call(request: &ModelInferRequest) -> Result<Call<'_>, InferError> {
    let (priority, timeout) = parameters(&request.parameters)?;
    let mut raw = request.raw_input_contents.iter();
    let inputs = request.inputs.iter().map(|input| sent_input(request, input, &mut raw)).collect::<Result<_, _>>()?;
    if raw.len() > 0 {
        return Err(InferError::invalid(format_args!(
            "model '{}' was sent {} raw_input_contents for {} inputs: send one for each input",
            request.model_name,
            request.raw_input_contents.len(),
            request.inputs.len()
        )));
    }
    let outputs = request.outputs.iter().map(wanted_output).collect::<Result<_, _>>()?;
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
) -> Result<SentInput<'a>, InferError> {
    let (name, model) = (&input.name, &request.model_name);
    if input.parameters.contains_key("shared_memory_region") {
        return Err(kserve::shared_memory_unsupported());
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
    Ok(SentInput { name, data_type: DataType::from_name(&input.datatype), shape: input.shape.clone(), data })
}

fn wanted_output(output: &InferRequestedOutputTensor) -> Result<WantedOutput<'_>, InferError> {
    if output.parameters.contains_key("shared_memory_region") {
        return Err(kserve::shared_memory_unsupported());
    }
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
    Ok(WantedOutput { name: &output.name, classes })
}
