//! HTTP bodies: received into one aligned, pooled buffer, and sent in parts that are not joined.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use quintet_engine::{
    BufferPool, InferError,
    budget::Charge,
    buffer::{ALIGNMENT, Filling},
};

use crate::{
    catalog::InputLimit,
    transport::encoding::{Encoding, too_large},
};

/// Receives a body of at most `max` bytes, as sent and as decoded. Its byte `aligned_at` (the first byte of the binary
/// tensors after a JSON header of that length) is aligned to [`ALIGNMENT`], so that the backend can use it in place;
/// encoded bodies are not aligned.
///
/// # Errors
/// `TooLarge` over the limit, `NoMemory` if the budget is used up, `Unsupported` for an unknown content encoding, and
/// `InvalidInput` if the body is incomplete or cannot be decoded.
pub async fn receive(
    headers: &HeaderMap,
    body: axum::body::Body,
    aligned_at: usize,
    max: InputLimit,
    pool: &BufferPool,
) -> Result<Bytes, InferError> {
    // A client that expects "100 Continue" has not sent its body yet.
    let expects = headers.contains_key(header::EXPECT);
    match Encoding::of_request(headers)? {
        None => receive_plain(body, expects, aligned_at, max, pool).await,
        Some(encoding) => encoding.decode(receive_plain(body, expects, 0, max, pool).await?, max, pool.budget()).await,
    }
}

async fn receive_plain(
    mut body: axum::body::Body,
    expects: bool,
    aligned_at: usize,
    max: InputLimit,
    pool: &BufferPool,
) -> Result<Bytes, InferError> {
    let broken = |error: axum::Error| InferError::invalid(format_args!("cannot read the body: {error}"));
    let Some(length) = body.size_hint().exact() else {
        return receive_unsized(body, max, pool, &broken).await;
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > max.bytes {
        if !expects {
            discard(body, max.bytes.saturating_mul(2)).await;
        }
        return Err(too_large(&format!(" of {length} bytes"), max));
    }
    let padding = padding(length, aligned_at);
    let mut chunk = next(&mut body).await.map_err(broken)?;
    if let Some(body) = chunk.take_if(|chunk| chunk.len() == length && is_aligned(chunk, aligned_at)) {
        return Ok(body);
    }
    let mut filling = Filling::start(pool, padding, length)?;
    while let Some(mut received) = chunk {
        while !received.is_empty() {
            if filling.is_complete() {
                return Err(InferError::invalid("the body is longer than its Content-Length"));
            }
            if let Err(full) = filling.grow().await {
                drop(filling);
                discard(body, length).await;
                return Err(full.into());
            }
            received.advance(filling.copy(&received));
        }
        chunk = next(&mut body).await.map_err(broken)?;
    }
    if !filling.is_complete() {
        let received = filling.received();
        return Err(InferError::invalid(format_args!("the body ended after {received} of {length} bytes")));
    }
    Ok(filling.finish())
}

/// The next data of a body.
async fn next(body: &mut axum::body::Body) -> Result<Option<Bytes>, axum::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Bytes of padding in front of a body of `length` bytes, so that its byte `aligned_at` is aligned. A header that is
/// longer than the body needs no padding.
pub(super) fn padding(length: usize, aligned_at: usize) -> usize {
    if aligned_at > length { 0 } else { aligned_at.next_multiple_of(ALIGNMENT) - aligned_at }
}

/// Whether a body's byte `aligned_at` is aligned, so that the body need not be copied.
fn is_aligned(body: &Bytes, aligned_at: usize) -> bool {
    aligned_at > body.len() || (body.as_ptr() as usize + aligned_at).is_multiple_of(ALIGNMENT)
}

/// The time limit for reading the rest of a refused body.
pub(super) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads and discards a refused body, at most `max_bytes`. A client that is still sending reads the response, and can
/// reuse its connection, only after it has sent its body.
pub(super) async fn discard(mut body: axum::body::Body, max_bytes: usize) {
    let mut left = max_bytes;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => left,
                None => return,
            };
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// The least bytes that are charged at once for a body without a `Content-Length`.
const STEP_BYTES: usize = 64 << 10;

/// Receives a body without a `Content-Length`.
async fn receive_unsized(
    mut body: axum::body::Body,
    max: InputLimit,
    pool: &BufferPool,
    broken: &impl Fn(axum::Error) -> InferError,
) -> Result<Bytes, InferError> {
    let mut received = BytesMut::new();
    let mut charge = pool.budget().charge();
    let most = max.bytes.min(pool.budget().largest());
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
        let length = received.len() + chunk.len();
        if length > max.bytes {
            discard(body, max.bytes).await;
            return Err(too_large("", max));
        }
        pool.budget().check(length)?;
        if length > charge.bytes() {
            let step = length.max(STEP_BYTES).min(most - charge.bytes());
            if let Err(full) = charge.grow(step, most - charge.bytes()).await {
                drop((received, charge));
                discard(body, max.bytes).await;
                return Err(full.into());
            }
        }
        received.extend_from_slice(&chunk);
    }
    charge.complete();
    Ok(charge.hold(received.freeze()))
}

/// A body of several parts, which are sent one after another without being joined.
#[derive(Debug)]
pub struct Chunks {
    parts: VecDeque<Bytes>,
    remaining: u64,
    /// The memory of the parts, until they are sent.
    _charge: Option<Charge>,
}

impl Chunks {
    /// A body of these parts.
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let parts: VecDeque<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let remaining = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, remaining, _charge: None }
    }

    /// The same body, which is charged until it is sent.
    #[must_use]
    pub fn charged(self, mut charge: Charge) -> Self {
        charge.force(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        Self { _charge: Some(charge), ..self }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.remaining -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(body: axum::body::Body, aligned_at: usize, max_bytes: usize) -> Result<Bytes, InferError> {
        let max = InputLimit { bytes: max_bytes, flag: "--max" };
        receive(&HeaderMap::new(), body, aligned_at, max, &BufferPool::new(1 << 20)).await
    }

    #[tokio::test]
    async fn tensors_after_a_json_header_are_aligned() {
        for header in [0, 1, 63, 64, 350] {
            let body = axum::body::Body::new(Chunks::new([Bytes::from(vec![1; header]), Bytes::from(vec![2; 5000])]));
            let received = take(body, header, 10_000).await.unwrap();
            assert_eq!(received.len(), header + 5000);
            assert_eq!(received[header..].as_ptr() as usize % ALIGNMENT, 0);
            assert!(received[..header].iter().all(|&b| b == 1) && received[header..].iter().all(|&b| b == 2));
        }
    }

    #[tokio::test]
    async fn rejects_sized_and_chunked_bodies_over_the_limit() {
        let sized = axum::body::Body::from(vec![0; 101]);
        let stream =
            futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; 60])), Ok(Bytes::from(vec![0; 60]))]);
        for body in [sized, axum::body::Body::from_stream(stream)] {
            let error = take(body, 0, 100).await.unwrap_err();
            assert_eq!(error.kind(), quintet_engine::ErrorKind::TooLarge);
            assert!(error.to_string().contains("limit of 100 bytes"), "{error}");
        }
    }
}
