//! Receives one length-prefixed message into one pooled buffer, placed so that its tensor is aligned.

use bytes::Bytes;
use prost::encoding::{WireType, decode_varint};
use quintet_engine::{
    BufferPool, ErrorKind, InferError,
    buffer::{ALIGNMENT, Buffer},
};

use crate::{catalog::InputLimit, transport::encoding::Encoding};

/// A message's prefix: a compression flag and a 32-bit length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;

/// How far into a message a tensor is looked for before the buffer is laid out.
const HEAD_BYTES: usize = 16 << 10;

/// Receives a body that is one message of at most a limit of bytes, before and after its encoding is undone if it is
/// compressed. The largest tensor in sight when the buffer is laid out is aligned to [`ALIGNMENT`], so that the backend
/// can view it in place.
pub(super) struct Receiver {
    encoding: Option<Encoding>,
    max: InputLimit,
    pool: BufferPool,
    state: State,
}

enum State {
    /// The prefix and the message's beginning, too little yet to lay out a buffer.
    Early(Vec<u8>),
    /// The message is to fill `buffer` from `padding` on; `at` is where its next bytes go.
    Laid { buffer: Buffer, padding: usize, at: usize, is_compressed: bool },
}

impl Receiver {
    /// Of a call whose messages are in `encoding` where they are compressed.
    pub(super) fn new(encoding: Option<Encoding>, max: InputLimit, pool: BufferPool) -> Self {
        Self { encoding, max, pool, state: State::Early(Vec::new()) }
    }

    /// Copies the next bytes to their place.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over the limit, [`ErrorKind::Unsupported`] for a compressed message without an encoding,
    /// and [`ErrorKind::InvalidInput`] for more than one message.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), InferError> {
        match &mut self.state {
            State::Laid { buffer, at, .. } => put(buffer, at, bytes),
            State::Early(early) if early.is_empty() => {
                match lay_out(bytes, self.encoding, self.max, &self.pool)? {
                    Some(laid) => self.state = laid,
                    None => early.extend_from_slice(bytes),
                }
                Ok(())
            }
            State::Early(early) => {
                early.extend_from_slice(bytes);
                if let Some(laid) = lay_out(early, self.encoding, self.max, &self.pool)? {
                    self.state = laid;
                }
                Ok(())
            }
        }
    }

    /// Where the rest of the message may be written instead; empty if that is not known yet, or there is no rest.
    pub(super) fn place(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Early(_) => &mut [],
            State::Laid { buffer, at, .. } => buffer.get_mut(*at..).unwrap_or_default(),
        }
    }

    /// So many bytes of the place were written.
    pub(super) fn filled(&mut self, bytes: usize) {
        if let State::Laid { at, .. } = &mut self.state {
            *at += bytes;
        }
    }

    /// The message, when all of the body came.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a body that is not a whole message, or not what its encoding says.
    pub(super) async fn finish(self) -> Result<Bytes, InferError> {
        let (buffer, padding, at, is_compressed) = match self.state {
            State::Early(early) if early.is_empty() => return Err(InferError::invalid("the request has no message")),
            State::Early(early) if early.len() < PREFIX_BYTES => {
                return Err(InferError::invalid("the request ended in the middle of a message's prefix"));
            }
            State::Early(early) => return Err(ended_early(early.len() - PREFIX_BYTES, length(&early))),
            State::Laid { buffer, padding, at, is_compressed } => (buffer, padding, at, is_compressed),
        };
        if at < buffer.len() {
            return Err(ended_early(at - padding, buffer.len() - padding));
        }
        let message = buffer.freeze().slice(padding..);
        match self.encoding {
            Some(encoding) if is_compressed => encoding.decode(message, self.max).await,
            _ => Ok(message),
        }
    }
}

fn ended_early(came: usize, length: usize) -> InferError {
    InferError::invalid(format_args!("the request ended after {came} of its message's {length} bytes"))
}

/// The length in a prefix.
fn length(early: &[u8]) -> usize {
    early.get(1..).and_then(|rest| rest.first_chunk()).map_or(0, |&size| u32::from_be_bytes(size) as usize)
}

fn put(buffer: &mut Buffer, at: &mut usize, bytes: &[u8]) -> Result<(), InferError> {
    let Some(place) = buffer.get_mut(*at..*at + bytes.len()) else {
        return Err(InferError::invalid("the request has more than one message, or is longer than it says"));
    };
    place.copy_from_slice(bytes);
    *at += bytes.len();
    Ok(())
}

/// A buffer for the message that begins with `early`, with what is there of it; `None` if more must come first.
fn lay_out(
    early: &[u8],
    encoding: Option<Encoding>,
    max: InputLimit,
    pool: &BufferPool,
) -> Result<Option<State>, InferError> {
    let Some((&[flag, ..], message)) = early.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if flag != 0 && encoding.is_none() {
        return Err(InferError::new(
            ErrorKind::Unsupported,
            "the message is compressed, but no grpc-encoding says how: name gzip or deflate",
        ));
    }
    let length = length(early);
    if length > max.bytes {
        return Err(InferError::new(
            ErrorKind::TooLarge,
            format_args!("the message of {length} bytes exceeds the limit of {max}"),
        ));
    }
    let tensor = largest_tensor(message);
    let is_largest = tensor.is_some_and(|(_, bytes)| bytes >= length as u64 / 2);
    if !is_largest && message.len() < length.min(HEAD_BYTES) {
        return Ok(None);
    }
    let offset = tensor.map_or(0, |(at, _)| at);
    let padding = offset.next_multiple_of(ALIGNMENT) - offset;
    let mut buffer = pool.take(padding + length);
    let mut at = padding;
    put(&mut buffer, &mut at, message)?;
    Ok(Some(State::Laid { buffer, padding, at, is_compressed: flag != 0 }))
}

/// Where in a message, of which only the beginning is there, the largest raw tensor in sight starts, and its bytes.
fn largest_tensor(message: &[u8]) -> Option<(usize, u64)> {
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
            Some(behind) => rest = behind,
            None => break,
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use quintet_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    /// Pushed and, where there is a place for that, written in turn.
    fn take(bytes: &[u8], cuts: &[usize]) -> Result<Bytes, InferError> {
        let max = InputLimit { bytes: 100_000, flag: "--max" };
        let mut receiver = Receiver::new(None, max, BufferPool::new(1 << 20));
        let mut rest = bytes;
        for (nth, &cut) in cuts.iter().chain([&bytes.len()]).enumerate() {
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            match receiver.place() {
                place if nth % 2 == 1 && place.len() >= chunk.len() => {
                    place[..chunk.len()].copy_from_slice(chunk);
                    receiver.filled(chunk.len());
                }
                _ => receiver.push(chunk)?,
            }
            rest = behind;
        }
        futures_util::FutureExt::now_or_never(receiver.finish()).unwrap()
    }

    fn request(names: Vec<String>, raw: Vec<Vec<u8>>) -> ModelInferRequest {
        ModelInferRequest {
            model_name: "m".into(),
            inputs: names
                .into_iter()
                .map(|name| InferInputTensor { name, shape: vec![1, -5], ..Default::default() })
                .collect(),
            raw_input_contents: raw.into_iter().map(Bytes::from).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        let refusal = |bytes: &[u8]| {
            let error = take(bytes, &[]).unwrap_err();
            (error.kind(), error.to_string())
        };
        assert_eq!(refusal(b"").1, "the request has no message");
        assert!(refusal(b"\0\0").1.contains("prefix"));
        assert!(refusal(b"\0\0\0\0\x05abc").1.contains("after 3 of its message's 5 bytes"));
        assert!(refusal(b"\0\0\0\0\x01abc").1.contains("more than one message"));
        assert_eq!(refusal(b"\x01\0\0\0\x01a").0, ErrorKind::Unsupported);
        assert_eq!(refusal(b"\0\xff\0\0\0").0, ErrorKind::TooLarge);
    }

    #[test]
    fn the_largest_tensor_in_sight_is_aligned() {
        for small in 1..80 {
            let sent = request(vec!["a".repeat(small)], vec![vec![1; small], vec![2; 5000]]);
            // The second tensor begins in the first frame, or only in the second.
            for cuts in [vec![4000], vec![3, 4000], vec![1; 200]] {
                let message = take(&framed(&sent.encode_to_vec()), &cuts).unwrap();
                let received = ModelInferRequest::decode(message).unwrap();
                assert_eq!(received.raw_input_contents[1].as_ptr() as usize % ALIGNMENT, 0);
            }
        }
    }

    proptest! {
        /// However a message is cut into frames, it is the same message; prost slices it without copying.
        #[test]
        fn frames_make_the_message_again(
            names in prop::collection::vec("\\PC{0,30}", 0..4),
            raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4),
            cuts in prop::collection::vec(0..2000usize, 0..12),
        ) {
            let sent = request(names, raw);
            let message = take(&framed(&sent.encode_to_vec()), &cuts).unwrap();
            let place = message.as_ptr_range();
            let received = ModelInferRequest::decode(message.clone()).unwrap();
            for raw in received.raw_input_contents.iter().filter(|raw| !raw.is_empty()) {
                prop_assert!(place.contains(&raw.as_ptr()), "a copy");
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0..50usize, 0..6),
        ) {
            largest_tensor(&bytes);
            let _ = take(&bytes, &cuts);
            if let Ok(message) = take(&framed(&bytes), &cuts) {
                prop_assert_eq!(&message[..], &bytes[..]);
                let _ = ModelInferRequest::decode(message);
            }
        }
    }
}
