//! Receives one length-prefixed message into one pooled buffer, placed so that its tensor is aligned.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use prost::encoding::{WireType, decode_varint};
use quintet_engine::{BufferPool, ErrorKind, InferError, buffer::ALIGNMENT};

use crate::{service::InputLimit, transport::encoding::Encoding};

/// A message's prefix: a compression flag and a 32-bit length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;

/// How far into a message a tensor is looked for before the buffer is laid out.
const HEAD_BYTES: usize = 16 << 10;

/// Receives a body that is one message of at most `max` bytes, before and after `encoding` is undone if it is
/// compressed. Each frame is copied once; the largest tensor in sight at that time is aligned to [`ALIGNMENT`], so that
/// the backend can view it in place.
///
/// # Errors
/// [`ErrorKind::TooLarge`] over the limit, [`ErrorKind::Unsupported`] for a compressed message without an encoding,
/// and [`ErrorKind::InvalidInput`] for a body that is not one message, or not what its encoding says.
pub(super) async fn receive<B>(
    body: B,
    encoding: Option<Encoding>,
    max: InputLimit,
    pool: &BufferPool,
) -> Result<Bytes, InferError>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut frames = Frames { body: std::pin::pin!(body) };
    let mut early = frames.at_least(Bytes::new(), PREFIX_BYTES).await?;
    if early.is_empty() {
        return Err(InferError::invalid("the request has no message"));
    }
    let Some((&[flag, size @ ..], _)) = early.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(InferError::invalid("the request ended in the middle of a message's prefix"));
    };
    let encoding = match (flag, encoding) {
        (0, _) => None,
        (_, Some(encoding)) => Some(encoding),
        (_, None) => {
            return Err(InferError::new(
                ErrorKind::Unsupported,
                "the message is compressed, but no grpc-encoding says how: name gzip or deflate",
            ));
        }
    };
    let length = u32::from_be_bytes(size) as usize;
    if length > max.bytes {
        return Err(InferError::new(
            ErrorKind::TooLarge,
            format_args!("the message of {length} bytes exceeds the limit of {max}"),
        ));
    }
    early.advance(PREFIX_BYTES);
    let mut tensor = largest_tensor(&early);
    if tensor.is_none() {
        early = frames.at_least(early, length.min(HEAD_BYTES)).await?;
        tensor = largest_tensor(&early);
    }
    let offset = tensor.unwrap_or(0);
    let padding = offset.next_multiple_of(ALIGNMENT) - offset;
    let mut buffer = pool.take(padding + length);
    let mut at = padding;
    let mut next = Some(early);
    while let Some(chunk) = next {
        let Some(place) = buffer.get_mut(at..at + chunk.len()) else {
            return Err(InferError::invalid("the request has more than one message, or is longer than it says"));
        };
        place.copy_from_slice(&chunk);
        at += chunk.len();
        next = frames.next().await?;
    }
    if at < padding + length {
        return Err(InferError::invalid(format_args!(
            "the request ended after {} of its message's {length} bytes",
            at - padding
        )));
    }
    let message = buffer.freeze().slice(padding..);
    match encoding {
        None => Ok(message),
        Some(encoding) => encoding.decode(message, max).await,
    }
}

/// The data frames of a body.
struct Frames<'a, B> {
    body: std::pin::Pin<&'a mut B>,
}

impl<B> Frames<'_, B>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    async fn next(&mut self) -> Result<Option<Bytes>, InferError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| InferError::invalid(format_args!("cannot read the request: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// `early` and as many frames as it takes to have `len` bytes, or all that there are. Joins them only
    /// where one frame does not do.
    async fn at_least(&mut self, early: Bytes, len: usize) -> Result<Bytes, InferError> {
        if early.len() >= len {
            return Ok(early);
        }
        let mut joined = BytesMut::from(&early[..]);
        while let Some(frame) = self.next().await? {
            if joined.is_empty() && frame.len() >= len {
                return Ok(frame);
            }
            joined.extend_from_slice(&frame);
            if joined.len() >= len {
                break;
            }
        }
        Ok(joined.freeze())
    }
}

/// Where in a message, of which only the beginning is there, the largest raw tensor in sight starts.
fn largest_tensor(message: &[u8]) -> Option<usize> {
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
            WireType::StartGroup | WireType::EndGroup => return largest.map(|(at, _)| at),
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
    largest.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use prost::Message as _;
    use quintet_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};

    use super::*;

    fn body(bytes: &[u8], cuts: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> {
        let mut rest = bytes;
        let mut chunks = Vec::new();
        for &cut in cuts {
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = behind;
        }
        chunks.push(rest.to_vec());
        let frames = chunks.into_iter().map(|chunk| Ok(http_body::Frame::data(Bytes::from(chunk))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn take(bytes: &[u8], cuts: &[usize]) -> Result<Bytes, InferError> {
        let pool = BufferPool::new(1 << 20);
        futures_util::FutureExt::now_or_never(receive(
            body(bytes, cuts),
            None,
            InputLimit { bytes: 100_000, flag: "--max" },
            &pool,
        ))
        .unwrap()
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
            (error.kind(), error.message().to_owned())
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
