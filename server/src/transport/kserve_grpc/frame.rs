//! Receives one length-prefixed gRPC message into one pooled buffer, so that its largest tensor is aligned.

use bytes::Bytes;
use quintet_engine::{
    BufferPool, ErrorKind, InferError,
    buffer::{ALIGNMENT, Filling},
};

use super::fields::{HEAD_BYTES, largest_tensor};
use crate::{catalog::InputLimit, transport::encoding::Encoding};

/// Bytes of a message's prefix: a compression flag and a 32-bit length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Receives a body that is one message. The size limit holds for the message as sent and, if it is compressed, as
/// decoded. The largest tensor that begins in the first bytes is aligned to [`ALIGNMENT`], so that the backend can use it
/// in place.
pub(super) struct Receiver {
    encoding: Option<Encoding>,
    max: InputLimit,
    pool: BufferPool,
    state: State,
}

enum State {
    /// The prefix and the first bytes of the message: not enough to allocate its buffer.
    Head(Vec<u8>),
    /// The message has its buffer.
    Body { body: Filling, is_compressed: bool },
}

impl Receiver {
    /// The receiver of a call whose compressed messages are in `encoding`.
    pub(super) fn new(encoding: Option<Encoding>, max: InputLimit, pool: BufferPool) -> Self {
        Self { encoding, max, pool, state: State::Head(Vec::new()) }
    }

    /// Appends the next bytes of the body.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over the limit, [`ErrorKind::Unsupported`] for a compressed message without an encoding,
    /// [`ErrorKind::InvalidInput`] for more than one message, and [`ErrorKind::NoMemory`] if the budget is used up.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), InferError> {
        match &mut self.state {
            State::Body { body, .. } => append(body, bytes),
            State::Head(head) if head.is_empty() => {
                match allocate(bytes, self.encoding, self.max, &self.pool)? {
                    Some(body) => self.state = body,
                    None => head.extend_from_slice(bytes),
                }
                Ok(())
            }
            State::Head(head) => {
                head.extend_from_slice(bytes);
                if let Some(body) = allocate(head, self.encoding, self.max, &self.pool)? {
                    self.state = body;
                }
                Ok(())
            }
        }
    }

    /// Where the rest of the message may be written directly; empty if the buffer is not allocated yet, or full.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Head(_) => &mut [],
            // Without memory it is empty: the next bytes are pushed, which refuses the message.
            State::Body { body, .. } => {
                let _ = body.try_grow();
                body.spare()
            }
        }
    }

    /// The first `bytes` of [`Self::buffer`] were written.
    pub(super) fn filled(&mut self, bytes: usize) {
        if let State::Body { body, .. } = &mut self.state {
            body.advance(bytes);
        }
    }

    /// The message, after the whole body was received.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an incomplete message, and for one that cannot be decoded.
    pub(super) async fn finish(self) -> Result<Bytes, InferError> {
        let (body, is_compressed) = match self.state {
            State::Head(head) if head.is_empty() => return Err(InferError::invalid("the request has no message")),
            State::Head(head) if head.len() < PREFIX_BYTES => {
                return Err(InferError::invalid("the request ended in the middle of a message's prefix"));
            }
            State::Head(head) => return Err(ended_early(head.len() - PREFIX_BYTES, length(&head))),
            State::Body { body, is_compressed } => (body, is_compressed),
        };
        if !body.is_complete() {
            return Err(ended_early(body.received(), body.length()));
        }
        let message = body.finish();
        match self.encoding {
            Some(encoding) if is_compressed => encoding.decode(message, self.max, self.pool.budget()).await,
            _ => Ok(message),
        }
    }
}

fn ended_early(received: usize, length: usize) -> InferError {
    InferError::invalid(format_args!("the request ended after {received} of the {length} bytes of its message"))
}

/// The length in a message's prefix.
fn length(prefix: &[u8]) -> usize {
    prefix.get(1..).and_then(|rest| rest.first_chunk()).map_or(0, |&size| u32::from_be_bytes(size) as usize)
}

fn append(body: &mut Filling, mut bytes: &[u8]) -> Result<(), InferError> {
    while !bytes.is_empty() {
        if body.is_complete() {
            return Err(InferError::invalid(
                "the request has more than one message, or its message is longer than its prefix says",
            ));
        }
        body.try_grow()?;
        bytes = &bytes[body.copy(bytes)..];
    }
    Ok(())
}

/// Allocates the buffer of a message and copies its first bytes there. `head` is the prefix and these bytes. `None` if
/// more bytes are needed to find the largest tensor.
fn allocate(
    head: &[u8],
    encoding: Option<Encoding>,
    max: InputLimit,
    pool: &BufferPool,
) -> Result<Option<State>, InferError> {
    let Some((&[flag, ..], message)) = head.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if flag != 0 && encoding.is_none() {
        return Err(InferError::new(
            ErrorKind::Unsupported,
            "the message is compressed, but the request has no grpc-encoding: set it to gzip or deflate",
        ));
    }
    let length = length(head);
    if length > max.bytes {
        return Err(InferError::new(
            ErrorKind::TooLarge,
            format_args!("the message of {length} bytes exceeds the limit of {max}"),
        ));
    }
    let tensor = largest_tensor(message);
    // A tensor of half the message or more is the largest one.
    let is_largest = tensor.is_some_and(|(_, bytes)| bytes >= length as u64 / 2);
    if !is_largest && message.len() < length.min(HEAD_BYTES) {
        return Ok(None);
    }
    let offset = tensor.map_or(0, |(at, _)| at);
    let padding = offset.next_multiple_of(ALIGNMENT) - offset;
    let mut body = Filling::start(pool, padding, length)?;
    append(&mut body, message)?;
    Ok(Some(State::Body { body, is_compressed: flag != 0 }))
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

    /// Receives `bytes` in pieces, which are pushed and, where possible, written directly in turn.
    fn receive(bytes: &[u8], cuts: &[usize]) -> Result<Bytes, InferError> {
        let max = InputLimit { bytes: 100_000, flag: "--max" };
        let mut receiver = Receiver::new(None, max, BufferPool::new(1 << 20));
        let mut rest = bytes;
        for (nth, &cut) in cuts.iter().chain([&bytes.len()]).enumerate() {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            match receiver.buffer() {
                buffer if nth % 2 == 1 && buffer.len() >= chunk.len() => {
                    buffer[..chunk.len()].copy_from_slice(chunk);
                    receiver.filled(chunk.len());
                }
                _ => receiver.push(chunk)?,
            }
            rest = after;
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
    fn rejects_a_body_that_is_not_one_message() {
        let refusal = |bytes: &[u8]| {
            let error = receive(bytes, &[]).unwrap_err();
            (error.kind(), error.to_string())
        };
        assert_eq!(refusal(b"").1, "the request has no message");
        assert!(refusal(b"\0\0").1.contains("prefix"));
        assert!(refusal(b"\0\0\0\0\x05abc").1.contains("after 3 of the 5 bytes of its message"));
        assert!(refusal(b"\0\0\0\0\x01abc").1.contains("more than one message"));
        assert_eq!(refusal(b"\x01\0\0\0\x01a").0, ErrorKind::Unsupported);
        assert_eq!(refusal(b"\0\xff\0\0\0").0, ErrorKind::TooLarge);
    }

    #[test]
    fn a_message_without_memory_is_refused_and_one_that_is_only_announced_has_none() {
        let bounds = quintet_engine::budget::Bounds {
            bytes: 4 << 20,
            largest_body: 2 << 20,
            wait: std::time::Duration::ZERO,
            flag: "--max-memory-bytes",
        };
        let pool = BufferPool::within(0, quintet_engine::Budget::new(bounds));
        let max = InputLimit { bytes: 1 << 20, flag: "--max" };
        let receivers: Vec<_> = (0..100)
            .map(|_| {
                let mut receiver = Receiver::new(None, max, pool.clone());
                receiver.push(&[0, 0, 0x10, 0, 0]).unwrap();
                receiver
            })
            .collect();
        assert_eq!(pool.budget().used(), 0);
        drop(receivers);
        let _held = pool.take(2 << 20);
        let mut receiver = Receiver::new(None, max, pool.clone());
        let message = framed(&request(vec![], vec![vec![7; 500_000]]).encode_to_vec());
        let error = receiver.push(&message[..1000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMemory);
        assert!(error.to_string().contains("(--max-memory-bytes)"), "{error}");
    }

    #[test]
    fn the_largest_tensor_near_the_beginning_is_aligned() {
        for small in 1..80 {
            let sent = request(vec!["a".repeat(small)], vec![vec![1; small], vec![2; 5000]]);
            // The second tensor begins in the first frame, or only in the second.
            for cuts in [vec![4000], vec![3, 4000], vec![1; 200]] {
                let message = receive(&framed(&sent.encode_to_vec()), &cuts).unwrap();
                let received = ModelInferRequest::decode(message).unwrap();
                assert_eq!(received.raw_input_contents[1].as_ptr() as usize % ALIGNMENT, 0);
            }
        }
    }

    proptest! {
        /// The message does not depend on the frames that it is sent in, and prost slices it without copying.
        #[test]
        fn any_frames_give_the_same_message(
            names in prop::collection::vec("\\PC{0,30}", 0..4),
            raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4),
            cuts in prop::collection::vec(0..2000usize, 0..12),
        ) {
            let sent = request(names, raw);
            let message = receive(&framed(&sent.encode_to_vec()), &cuts).unwrap();
            let range = message.as_ptr_range();
            let received = ModelInferRequest::decode(message.clone()).unwrap();
            for raw in received.raw_input_contents.iter().filter(|raw| !raw.is_empty()) {
                prop_assert!(range.contains(&raw.as_ptr()), "a copy");
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0..50usize, 0..6),
        ) {
            largest_tensor(&bytes);
            let _ = receive(&bytes, &cuts);
            if let Ok(message) = receive(&framed(&bytes), &cuts) {
                prop_assert_eq!(&message[..], &bytes[..]);
                let _ = ModelInferRequest::decode(message);
            }
        }
    }
}
