//! Reports to the guard what the requests of an HTTP/2 connection wait for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use quintet_http2::{Intake, RequestCancelled, ResponseFuture};

use super::infer::{Incoming, Refusal};
use crate::transport::guard::{BodyProgress, Guard, RequestState, Requested};

/// Bytes in front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A call of `ModelInfer` whose message is being received.
pub(super) struct GuardedIntake {
    incoming: Incoming,
    requested: Requested,
    progress: BodyProgress,
}

impl GuardedIntake {
    pub(super) fn new(incoming: Incoming, guard: &Arc<Guard>) -> Self {
        let requested = Requested::new(guard, RequestState::Receiving);
        Self { incoming, requested, progress: BodyProgress::new(guard) }
    }
}

impl Intake<Answer> for GuardedIntake {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Box<Response<Answer>>> {
        let refused = |refusal: Refusal| {
            Box::new(refusal.map(|body| Answer::new(body, self.requested.again(RequestState::Sending))))
        };
        self.progress.received(bytes.len(), true);
        self.incoming.push(bytes).map_err(refused)
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.incoming.buffer()
    }

    fn filled(&mut self, bytes: usize) {
        self.progress.received(bytes, true);
        self.incoming.filled(bytes);
    }

    fn finish(self: Box<Self>) -> ResponseFuture<Answer> {
        let Self { incoming, mut requested, progress } = *self;
        drop(progress);
        requested.set(RequestState::Answering);
        Box::pin(async move { incoming.answer().await.map(|body| Answer::new(body, requested)) })
    }
}

/// The body of a response. It is polled when the client takes more of it.
pub(super) struct Answer {
    body: tonic::body::Body,
    requested: Requested,
    /// What the request waits for when there is nothing to send.
    waiting: RequestState,
}

impl Answer {
    /// The response to a request.
    pub(super) fn new(body: tonic::body::Body, requested: Requested) -> Self {
        Self { body, requested, waiting: RequestState::Answering }
    }

    /// The responses of a long stream, which rests between them.
    pub(super) fn of_stream(body: tonic::body::Body, requested: Requested) -> Self {
        Self { body, requested, waiting: RequestState::Quiet }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let state = if frame.is_pending() { self.waiting } else { RequestState::Sending };
        self.requested.set(state);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request that tonic reads. While tonic waits for the rest of a message, so does the server.
pub(super) struct RequestBody {
    body: quintet_http2::RequestBody,
    guard: Arc<Guard>,
    /// Whether the client may leave the stream open without a message.
    is_stream: bool,
    messages: Messages,
    waiting: Option<Requested>,
    progress: BodyProgress,
}

impl RequestBody {
    pub(super) fn new(body: quintet_http2::RequestBody, guard: &Arc<Guard>, is_stream: bool) -> Self {
        let (messages, progress) = (Messages::default(), BodyProgress::new(guard));
        Self { body, guard: Arc::clone(guard), is_stream, messages, waiting: None, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestCancelled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestCancelled>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending if !self.is_stream || self.messages.is_partial() => {
                self.progress.waits(true);
                if self.waiting.is_none() {
                    self.waiting = Some(Requested::new(&self.guard, RequestState::Receiving));
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = None;
                if let Some(data) = frame.data_ref() {
                    self.messages.advance(data);
                    // Between messages, and while no more is read, it may rest.
                    self.progress.received(data.len(), false);
                }
            }
            _ => self.waiting = None,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where a stream of length-prefixed messages stands.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Bytes left of the current message.
    left: usize,
}

impl Messages {
    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (PREFIX_BYTES - self.prefix_bytes).min(bytes.len());
            self.prefix[self.prefix_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.prefix_bytes += taken;
            bytes = &bytes[taken..];
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                (self.left, self.prefix_bytes) = (u32::from_be_bytes(length) as usize, 0);
            }
        }
    }

    /// Whether a message has begun and is not complete.
    fn is_partial(&self) -> bool {
        self.left > 0 || self.prefix_bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any pieces, a stream is between messages where one ends, and nowhere else.
        #[test]
        fn messages_are_partial_until_their_last_byte(
            lengths in prop::collection::vec(0usize..40, 1..6), cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let stream: Vec<u8> = lengths.iter().flat_map(|&length| {
                let mut message = vec![0];
                message.extend((length as u32).to_be_bytes());
                message.extend(vec![7; length]);
                message
            }).collect();
            let ends: Vec<_> = lengths.iter().scan(0, |end, length| { *end += PREFIX_BYTES + length; Some(*end) }).collect();
            let (mut messages, mut at) = (Messages::default(), 0);
            for cut in cuts {
                let next = (at + cut).min(stream.len());
                messages.advance(&stream[at..next]);
                at = next;
                prop_assert_eq!(messages.is_partial(), at > 0 && !ends.contains(&at), "{} of {:?}", at, ends);
            }
        }
    }
}
