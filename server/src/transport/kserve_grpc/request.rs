//! Translates a `ModelInferRequest` to a call, with Triton's rules and error texts.

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, SentInput, StageTimings};
use quintet_proto::inference::{
    InferParameter, ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};

use super::contents;
use crate::kserve::{
    Call,
    parameters::{Number, Parameters, REGION, queueing, shared_range, wanted_output},
    shared_memory::SharedMemory,
};

/// The call that a message asks for. Raw tensors are slices of the buffer that it was decoded from.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for tensors without data and parameters of the wrong type,
/// and as [`SharedMemory::range`].
pub(super) fn call<'a>(request: &'a ModelInferRequest, memory: &SharedMemory) -> Result<Call<'a>, InferError> {
    check(&request.parameters)?;
    let (priority, timeout) = queueing(&Sent(&request.parameters))?;
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
    let outputs = request.outputs.iter().map(|output| wanted_output(&output.name, &Sent(&output.parameters), memory));
    Ok(Call {
        id: &request.id,
        inputs,
        outputs: outputs.collect::<Result<_, _>>()?,
        priority,
        timeout,
        deadline: None,
        started: Instant::now(),
        timings: StageTimings::default(),
    })
}

/// The parameters of a message.
struct Sent<'a>(&'a HashMap<String, InferParameter>);

impl Sent<'_> {
    fn choice(&self, name: &str) -> Option<Option<&ParameterChoice>> {
        self.0.get(name).map(|parameter| parameter.parameter_choice.as_ref())
    }
}

impl Parameters for Sent<'_> {
    fn number(&self, number: Number<'_>) -> Result<Option<u64>, InferError> {
        use ParameterChoice::{Int64Param, Uint64Param};
        let Some(choice) = self.choice(number.name()) else { return Ok(None) };
        match (number, choice) {
            (Number::Classes, Some(Int64Param(count))) => {
                let count = u64::try_from(*count).ok().filter(|&count| count > 0);
                count
                    .map(Some)
                    .ok_or_else(|| InferError::invalid("invalid value for 'classification' parameter, expected >= 0"))
            }
            (Number::Classes, _) => {
                Err(InferError::invalid("invalid value type for 'classification' parameter, expected int64_param"))
            }
            (Number::Priority | Number::Timeout, Some(Int64Param(value))) => {
                Ok(Some(u64::try_from(*value).unwrap_or(0)))
            }
            (Number::Priority, Some(Uint64Param(value))) => Ok(Some(*value)),
            (Number::Priority, _) => Err(wrong_type(number.name(), "int64_param or uint64_param")),
            (Number::Timeout, _) => Err(wrong_type(number.name(), "int64_param")),
            (Number::Offset(tensor) | Number::ByteSize(tensor), Some(Int64Param(value))) => u64::try_from(*value)
                .map(Some)
                .map_err(|_| wrong_type_of_tensor(number.name(), tensor, "a number of at least 0")),
            (Number::Offset(_) | Number::ByteSize(_), Some(Uint64Param(value))) => Ok(Some(*value)),
            (Number::Offset(tensor) | Number::ByteSize(tensor), _) => {
                Err(wrong_type_of_tensor(number.name(), tensor, "int64_param"))
            }
        }
    }

    fn region(&self, tensor: &str) -> Result<Option<&str>, InferError> {
        match self.choice(REGION) {
            None => Ok(None),
            Some(Some(ParameterChoice::StringParam(region))) => Ok(Some(region)),
            Some(_) => Err(wrong_type_of_tensor(REGION, tensor, "string_param")),
        }
    }
}

fn wrong_type(name: &str, expected: &str) -> InferError {
    InferError::invalid(format_args!("invalid value type for '{name}' parameter, expected {expected}."))
}

fn wrong_type_of_tensor(name: &str, tensor: &str, expected: &str) -> InferError {
    InferError::invalid(format_args!(
        "invalid value type for '{name}' parameter for tensor '{tensor}', expected {expected}."
    ))
}

/// Checks the names and types of a request's parameters. [`queueing`] checks priority and timeout.
fn check(parameters: &HashMap<String, InferParameter>) -> Result<(), InferError> {
    use ParameterChoice::{BoolParam, Int64Param, StringParam};
    for (name, value) in parameters {
        let expected = match (name.as_str(), &value.parameter_choice) {
            // Only Triton's own backends give these a meaning.
            (name, _) if name.starts_with("triton_") && name != "triton_enable_empty_final_response" => {
                return Err(InferError::invalid(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
                ));
            }
            ("priority" | "timeout", _) => continue,
            ("sequence_id", Some(Int64Param(_) | StringParam(_))) => continue,
            ("sequence_id", _) => "int64_param or string_param",
            ("sequence_start" | "sequence_end", Some(BoolParam(_))) => continue,
            ("sequence_start" | "sequence_end", _) => "bool_param",
            (_, Some(_)) => continue,
            (_, None) => "bool_param, int64_param, or string_param",
        };
        return Err(wrong_type(name, expected));
    }
    Ok(())
}

/// One input. `raw` holds the raw tensors that the inputs before it did not take.
fn sent_input<'a>(
    request: &ModelInferRequest,
    input: &'a InferInputTensor,
    raw: &mut std::slice::Iter<'_, Bytes>,
    memory: &SharedMemory,
) -> Result<SentInput<'a>, InferError> {
    let (name, model) = (&input.name, &request.model_name);
    let data_type = DataType::from_name(&input.datatype);
    let sent = |data| Ok(SentInput { name, data_type, shape: input.shape.clone(), data });
    if let Some(range) = shared_range(name, &Sent(&input.parameters), memory)? {
        if input.contents.is_some() {
            return Err(InferError::invalid(format_args!(
                "unexpected 'contents' provided when using shared memory for input tensor '{name}' for model '{model}'"
            )));
        }
        return sent(range.read(data_type));
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
