//! Looks through the fields of a `ModelInferRequest` without decoding it: where its tensors are, and how many fields it has.

use prost::encoding::{WireType, decode_varint};

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
pub(super) fn count(mut message: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(key) = decode_varint(&mut message) {
        count += 1;
        let length = match WireType::try_from(key & 7) {
            Ok(WireType::Varint) => decode_varint(&mut message).map(|_| 0),
            Ok(WireType::SixtyFourBit) => Ok(8),
            Ok(WireType::ThirtyTwoBit) => Ok(4),
            Ok(WireType::LengthDelimited) => decode_varint(&mut message),
            _ => break,
        };
        let Some(rest) = length.ok().and_then(|length| message.get(usize::try_from(length).ok()?..)) else { break };
        message = rest;
    }
    count
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
