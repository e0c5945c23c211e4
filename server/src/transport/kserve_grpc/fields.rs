//! Looks through the fields of a `ModelInferRequest` without decoding it: where its tensors are, and how many fields
//! and parameters it has.

use prost::encoding::{WireType, decode_varint};

/// Field numbers of `ModelInferRequest`.
const PARAMETERS: u64 = 4;
const INPUTS: u64 = 5;
const OUTPUTS: u64 = 6;
/// Field numbers of `parameters` in its inputs and outputs.
const PARAMETERS_OF_INPUT: u64 = 4;
const PARAMETERS_OF_OUTPUT: u64 = 2;
/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;

/// Bytes of a message that are searched for tensors before its buffer is allocated.
pub(super) const HEAD_BYTES: usize = 16 << 10;

/// Bytes of a message that are not in its largest raw tensor.
pub(super) fn bytes_beside_tensors(message: &[u8]) -> usize {
    let head = &message[..message.len().min(HEAD_BYTES)];
    let tensor = largest_tensor(head).and_then(|(_, bytes)| usize::try_from(bytes).ok());
    message.len().saturating_sub(tensor.unwrap_or(0))
}

/// The number of fields of a message, without those of its fields.
pub(super) fn count(message: &[u8]) -> usize {
    fields(message).count()
}

/// The number of parameters of a request, its inputs and its requested outputs.
pub(super) fn parameters(message: &[u8]) -> usize {
    let of = |number, message| fields(message).filter(|&(field, _)| field == number).count();
    let inputs_and_outputs = fields(message).map(|(field, content)| match field {
        INPUTS => of(PARAMETERS_OF_INPUT, content),
        OUTPUTS => of(PARAMETERS_OF_OUTPUT, content),
        _ => 0,
    });
    of(PARAMETERS, message) + inputs_and_outputs.sum::<usize>()
}

/// The fields of a message, as far as it is well-formed: the number of each, and its content if that has a length.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let key = decode_varint(&mut message).ok()?;
        let length = match WireType::try_from(key & 7).ok()? {
            WireType::Varint => decode_varint(&mut message).map(|_| 0).ok()?,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => decode_varint(&mut message).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (content, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
        message = rest;
        Some((key >> 3, content))
    })
}

/// The offset and size of the largest raw tensor that begins in these first bytes of a message.
pub(super) fn largest_tensor(message: &[u8]) -> Option<(usize, u64)> {
    let mut rest = message;
    let mut largest: Option<(usize, u64)> = None;
    while let Ok(key) = decode_varint(&mut rest) {
        let length = match WireType::try_from(key & 7).ok()? {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => decode_varint(&mut rest).ok()?,
            WireType::StartGroup | WireType::EndGroup => return largest,
        };
        if key == u64::from(RAW_INPUT_CONTENTS << 3 | WireType::LengthDelimited as u32)
            && largest.is_none_or(|(_, other)| length > other)
        {
            largest = Some((message.len() - rest.len(), length));
        }
        match usize::try_from(length).ok().and_then(|length| rest.get(length..)) {
            Some(after) => rest = after,
            None => break,
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use quintet_proto::inference::{
        InferParameter, ModelInferRequest,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    };

    use super::*;

    #[test]
    fn counts_the_parameters_of_a_request_its_inputs_and_its_outputs() {
        let some = |count: usize| (0..count).map(|index| (index.to_string(), InferParameter::default())).collect();
        let input = |count| InferInputTensor { parameters: some(count), shape: vec![4; count], ..Default::default() };
        let output = InferRequestedOutputTensor { parameters: some(5), ..Default::default() };
        let request = ModelInferRequest {
            model_name: "m".into(),
            parameters: some(3),
            inputs: vec![input(2), input(1)],
            outputs: vec![output],
            ..Default::default()
        };
        let message = request.encode_to_vec();
        assert_eq!((count(&message), parameters(&message)), (7, 11));
        assert_eq!(parameters(&message[..message.len() - 1]), 6, "the output is incomplete");
    }
}
