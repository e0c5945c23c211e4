//! One request and its answer.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::AbortHandle;
use http::HeaderMap;

use super::{
    Intake, MAX_OUTPUT_BYTES, STREAM_WINDOW_BYTES,
    body::Inlet,
    head,
    output::Output,
    window::{Receive, Send},
};

/// What is asked of an answer's body before it is sent.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// A stream that is not closed.
pub(super) struct Stream<B> {
    pub(super) receiving: Receiving<B>,
    pub(super) receive_window: Receive,
    pub(super) send_window: Send,
    pub(super) sending: Option<Sending<B>>,
    /// Of a body that is answered while it comes; also when all of it came, as long as it is not read.
    pub(super) inlet: Option<Inlet>,
    /// Ends the making of the answer.
    pub(super) answering: Option<AbortHandle>,
}

/// Where what still comes goes.
pub(super) enum Receiving<B> {
    Whole(Box<dyn Intake<B>>),
    /// To the inlet.
    Streamed,
    /// It has its answer, or had it refused.
    Nowhere,
    /// Nothing comes.
    Ended,
}

impl<B> Stream<B> {
    pub(super) fn new(receiving: Receiving<B>, send_window_bytes: u32) -> Self {
        Self {
            receiving,
            receive_window: Receive::new(STREAM_WINDOW_BYTES),
            send_window: Send::new(send_window_bytes),
            sending: None,
            inlet: None,
            answering: None,
        }
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        if let Some(answering) = &self.answering {
            answering.abort();
        }
    }
}

/// An answer whose head was sent.
pub(super) struct Sending<B> {
    body: B,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    trailers: Option<HeaderMap>,
    is_whole: bool,
}

/// What came of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it is queued.
    All,
    /// It waits for its body, for the client's windows or for the socket.
    Some,
    /// Its body broke off.
    Broken,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Sending<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, waiting: VecDeque::new(), waiting_bytes: 0, trailers: None, is_whole: false }
    }

    /// Queues what the body has and the windows allow, until [`MAX_OUTPUT_BYTES`] wait.
    pub(super) fn poll(
        &mut self,
        stream: u32,
        [window, connection]: [&mut Send; 2],
        output: &mut Output,
        cx: &mut Context<'_>,
    ) -> Sent {
        loop {
            if self.fill(cx).is_err() {
                return Sent::Broken;
            }
            if self.waiting_bytes == 0 {
                break;
            }
            let room = window.left().min(connection.left()).min(output.max_frame_bytes as usize);
            if room == 0 || output.bytes() >= MAX_OUTPUT_BYTES {
                return Sent::Some;
            }
            let length = self.waiting_bytes.min(room);
            let is_last = length == self.waiting_bytes && self.is_whole && self.trailers.is_none();
            output.data(stream, length, is_last, &mut self.waiting);
            self.waiting_bytes -= length;
            window.take(length);
            connection.take(length);
            if is_last {
                return Sent::All;
            }
        }
        if !self.is_whole {
            return Sent::Some;
        }
        match &self.trailers {
            Some(trailers) => output.fields(stream, true, head::fields(trailers)),
            None => output.data(stream, 0, true, &mut self.waiting),
        }
        Sent::All
    }

    /// Asks the body for what it has.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), B::Error> {
        while !self.is_whole && self.waiting_bytes < MAX_WAITING_BYTES {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.is_whole = true,
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.waiting_bytes += data.len();
                        self.waiting.push_back(data);
                    }
                    // Nothing comes behind trailers.
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.is_whole = true;
                    }
                },
            }
        }
        Ok(())
    }
}
