//! The exchanges of a connection: each from the head of its request to the last byte of its response.

use std::task::{Context, Poll};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
};
use http::{Response, request::Parts};
use http_body::Body as _;

use super::{
    driver::Driver,
    handler::{Admission, Handler, ResponseFuture},
    request::{Request, Sink},
    request_body,
    response::{ResponseSender, Sent, StreamResponse},
};
use crate::{
    connection::Event,
    frame::{ErrorCode, StreamId},
};

impl<S, H: Handler> Driver<S, H> {
    /// Acts on what was received.
    pub(super) fn handle_events(&mut self) -> Result<(), ErrorCode> {
        while let Some(event) = self.connection.poll_event()? {
            match event {
                Event::Request { stream, head, is_last } => self.begin(stream, head, is_last),
                Event::EndStream { stream } => self.finish(stream),
                Event::Reset { stream } => drop(self.requests.remove(&stream)),
                Event::Data { stream, bytes } => {
                    let length = bytes.len();
                    let pushed = match self.requests.get_mut(&stream).map(|request| &mut request.sink) {
                        Some(Sink::Buffered(intake)) => intake.push(bytes),
                        // Its capacity is released when it is read.
                        Some(Sink::Streaming(body)) if body.push(bytes) => continue,
                        Some(Sink::Streaming(_) | Sink::Discard) | None => Ok(()),
                    };
                    self.connection.release_capacity(stream, length);
                    if let Err(refusal) = pushed {
                        self.respond(stream, *refusal);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands a new request to the handler.
    fn begin(&mut self, stream: StreamId, head: Parts, is_last: bool) {
        match self.handler.handle(head) {
            Admission::Buffered(intake) => {
                self.requests.insert(stream, Request::new(Sink::Buffered(intake)));
            }
            Admission::Streaming(answer) => {
                let (sender, body) = request_body::channel(stream, &self.signal);
                self.requests.insert(stream, Request::new(Sink::Streaming(sender)));
                self.spawn(stream, answer(body));
            }
            Admission::Answered(response) => {
                self.requests.insert(stream, Request::new(Sink::Discard));
                return self.respond(stream, response);
            }
        }
        if is_last {
            self.finish(stream);
        }
    }

    /// The body of a request is complete.
    fn finish(&mut self, stream: StreamId) {
        let Some(request) = self.requests.get_mut(&stream) else { return };
        if let Sink::Streaming(body) = &request.sink {
            body.finish();
        } else if let Sink::Buffered(intake) = std::mem::replace(&mut request.sink, Sink::Discard) {
            self.spawn(stream, intake.finish());
        }
    }

    /// Polls a response with this task from now on.
    fn spawn(&mut self, stream: StreamId, response: ResponseFuture<H::ResponseBody>) {
        let Some(request) = self.requests.get_mut(&stream) else { return };
        let (handle, registration) = AbortHandle::new_pair();
        request.response = Some(handle);
        self.responses.push(Abortable::new(StreamResponse { stream, response }, registration));
    }

    /// Begins to send the responses that are ready; whether there were any.
    pub(super) fn poll_responses(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while let Poll::Ready(Some(response)) = self.responses.poll_next_unpin(cx) {
            progressed = true;
            // Aborted ones belong to streams that are closed.
            if let Ok((stream, response)) = response {
                self.respond(stream, response);
            }
        }
        progressed
    }

    /// Begins to send a response.
    fn respond(&mut self, stream: StreamId, response: Response<H::ResponseBody>) {
        let Some(request) = self.requests.get_mut(&stream) else { return };
        if let Sink::Buffered(_) = request.sink {
            request.sink = Sink::Discard;
        }
        let (head, body) = response.into_parts();
        let is_last = body.is_end_stream();
        self.connection.send_response(stream, head.status, &head.headers, is_last);
        if is_last {
            self.requests.remove(&stream);
        } else {
            request.sender = Some(ResponseSender::new(body));
            self.queue(stream);
        }
    }

    /// Has a response sent on, unless it is complete.
    fn queue(&mut self, stream: StreamId) {
        if let Some(sender) = self.requests.get_mut(&stream).and_then(|request| request.sender.as_mut())
            && !std::mem::replace(&mut sender.is_queued, true)
        {
            self.sending.push_back(stream);
        }
    }

    /// Queues what responses have and the connection takes; whether there was anything. Only responses that may have
    /// something are looked at.
    pub(super) fn poll_sending(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(stream) = self.connection.poll_unblocked() {
            self.queue(stream);
        }
        let before = self.connection.queued_bytes();
        // Most of them were reset while they waited.
        if self.blocked.len() > 2 * self.requests.len() + 16 {
            self.blocked.retain(|stream| self.requests.contains_key(stream));
        }
        while self.connection.takes_data()
            && let Some(stream) = self.blocked.pop_front()
        {
            self.send(stream, cx);
        }
        while let Some(stream) = self.sending.pop_front() {
            self.send(stream, cx);
        }
        self.connection.queued_bytes() > before
    }

    /// Sends a response on.
    fn send(&mut self, stream: StreamId, cx: &mut Context<'_>) {
        let Some(sender) = self.requests.get_mut(&stream).and_then(|request| request.sender.as_mut()) else { return };
        let sent = sender.poll(stream, &mut self.connection, &self.signal, cx);
        // Another stream is the first when the connection takes more.
        sender.is_queued = sent == Sent::Blocked;
        match sent {
            Sent::Pending => {}
            Sent::Blocked => self.blocked.push_back(stream),
            Sent::Complete => drop(self.requests.remove(&stream)),
            Sent::Failed => {
                self.connection.reset(stream, ErrorCode::Internal);
                self.requests.remove(&stream);
            }
        }
    }

    /// Releases the capacity of what was read from requests' bodies, and has responses sent on whose bodies have more.
    pub(super) fn handle_signals(&mut self) {
        let mut streams = std::mem::take(&mut self.signalled);
        self.signal.take(&mut streams);
        for stream in streams.drain(..) {
            if let Some(Request { sink: Sink::Streaming(body), .. }) = self.requests.get_mut(&stream) {
                self.connection.release_capacity(stream, body.take_consumed());
            }
            self.queue(stream);
        }
        self.signalled = streams;
    }
}
