//! The way back: answers are made, and sent as far as the client takes them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::frame::{self as http2, kind};
use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
};
use http::Response;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        Answering, Handler,
        error::Code,
        head,
        stream::{Receiving, Sending, Sent, Stream},
    },
    Connection,
};

/// A stream's answer.
pub(super) struct Numbered<B> {
    stream: u32,
    answering: Answering<B>,
}

impl<B> Future for Numbered<B> {
    type Output = (u32, Response<B>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.answering.as_mut().poll(cx));
        Poll::Ready((self.stream, response))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    /// Has an answer made.
    pub(super) fn answer(&mut self, stream: u32, answering: Answering<H::Body>) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        let (handle, registration) = AbortHandle::new_pair();
        open.answering = Some(handle);
        self.answering.push(Abortable::new(Numbered { stream, answering }, registration));
    }

    /// Sends what was answered; whether anything was.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(answer)) = self.answering.poll_next_unpin(cx) {
            moved = true;
            // Else the client has given it up.
            if let Ok((stream, response)) = answer {
                self.respond(stream, response);
            }
        }
        moved
    }

    /// Begins to send an answer.
    pub(super) fn respond(&mut self, stream: u32, response: Response<H::Body>) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        if !matches!(open.receiving, Receiving::Ended) {
            open.receiving = match open.receiving {
                Receiving::Streamed => Receiving::Streamed,
                _ => Receiving::Nowhere,
            };
        }
        let (head, body) = response.into_parts();
        let is_last = body.is_end_stream();
        self.output.fields(stream, is_last, head::of_answer(&head.status, &head.headers));
        if is_last {
            return self.finish(stream);
        }
        open.sending = Some(Sending::new(body));
        self.sending.push(stream);
    }

    /// Queues what answers have and the client takes; whether there was anything.
    pub(super) fn poll_sending(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.output.bytes();
        let mut finished = Vec::new();
        for &stream in &self.sending {
            let Some(Stream { sending: Some(sending), send_window, .. }) = self.streams.get_mut(&stream) else {
                continue;
            };
            match sending.poll(stream, [send_window, &mut self.send_window], &mut self.output, cx) {
                Sent::Some => {}
                ended => finished.push((stream, ended)),
            }
        }
        for (stream, ended) in finished {
            match ended {
                Sent::Broken => self.reset(stream, Code::Internal),
                _ => self.finish(stream),
            }
        }
        let streams = &self.streams;
        self.sending.retain(|stream| streams.contains_key(stream));
        // When the socket or the connection's window is full, another one is the first.
        if self.sending.len() > 1 {
            self.sending.rotate_left(1);
        }
        self.output.bytes() > before
    }

    /// All of an answer is queued. Of a request that it did not need, no more is wanted (section 8.1).
    pub(super) fn finish(&mut self, stream: u32) {
        let is_whole = self.streams.get(&stream).is_some_and(|open| matches!(open.receiving, Receiving::Ended));
        if is_whole { self.remove(stream) } else { self.reset(stream, Code::NoError) }
    }

    /// Ends a stream, and tells the client why.
    pub(super) fn reset(&mut self, stream: u32, code: Code) {
        self.output.control(http2::frame(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes()));
        self.remove(stream);
    }

    pub(super) fn remove(&mut self, stream: u32) {
        let removed = self.streams.remove(&stream);
        let unread = removed.and_then(|stream| stream.inlet.as_ref().map(|inlet| inlet.abandon()));
        self.release_connection(unread.unwrap_or(0) as u32);
    }
}
