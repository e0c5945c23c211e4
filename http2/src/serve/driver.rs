//! Polls the socket, the state machine and the responses of one connection.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use http::{Response, request::Parts};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    error::Error,
    handler::{Admission, Handler, ResponseFuture},
    options::Options,
    request::{Request, Sink},
    request_body::{self, ReadSignal},
    response::{ResponseSender, Sent, StreamResponse},
};
use crate::{
    connection::{Connection, Event},
    frame::{ErrorCode, StreamId},
};

/// Bytes left of a DATA frame from which on they are read past the connection's buffer.
const MIN_DIRECT_BYTES: usize = 4 << 10;
/// Parts that one system call writes.
const MAX_SLICES: usize = 64;

/// The result of reading from the socket.
enum Input {
    /// Nothing can be read now.
    Pending,
    Received,
    /// The client has ended the connection.
    End,
}

/// A connection with its socket and its requests.
pub(super) struct Driver<S, H: Handler> {
    socket: S,
    handler: H,
    connection: Connection,
    requests: HashMap<StreamId, Request<H::ResponseBody>>,
    responses: FuturesUnordered<Abortable<StreamResponse<H::ResponseBody>>>,
    /// Streams whose response is being sent.
    sending: Vec<StreamId>,
    /// Set when a streaming request's body was read.
    bodies_read: Arc<ReadSignal>,
    is_shutting_down: bool,
    error: Option<ErrorCode>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Driver<S, H> {
    pub(super) fn new(socket: S, handler: H, options: Options) -> Self {
        Self {
            socket,
            handler,
            connection: Connection::new(options.limits),
            requests: HashMap::new(),
            responses: FuturesUnordered::new(),
            sending: Vec::new(),
            bodies_read: Arc::default(),
            is_shutting_down: false,
            error: None,
        }
    }

    /// Makes all progress that is possible now. Ready when the connection has ended.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<(), Error>> {
        self.bodies_read.register(cx.waker());
        loop {
            if !self.is_shutting_down && shutdown.as_mut().poll(cx).is_ready() {
                self.is_shutting_down = true;
                self.connection.shut_down();
            }
            let mut progressed = false;
            if self.error.is_none() {
                match self.poll_input(cx) {
                    Ok(Input::Pending) => {}
                    Ok(Input::Received) => progressed = true,
                    Ok(Input::End) => return Poll::Ready(Ok(())),
                    Err(Error::Io(error)) => return Poll::Ready(Err(error.into())),
                    Err(Error::Protocol(code)) => self.fail(code),
                }
                progressed |= self.poll_responses(cx);
                progressed |= self.poll_sending(cx);
            }
            let queued = self.connection.queued_bytes();
            match self.poll_write(cx) {
                // An error of the socket does not matter after the client has received all responses.
                Poll::Ready(_) if self.connection.is_closed() => {
                    let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
                    return Poll::Ready(self.error.take().map_or(Ok(()), |code| Err(Error::Protocol(code))));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                _ => {}
            }
            if !progressed && self.connection.queued_bytes() == queued {
                return Poll::Pending;
            }
        }
    }

    /// Drops all requests after a connection error.
    fn fail(&mut self, code: ErrorCode) {
        self.error = Some(code);
        self.requests.clear();
        self.responses.clear();
        self.sending.clear();
    }

    /// Reads once, and handles what was received.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<Input, Error> {
        if self.bodies_read.take() {
            self.release_consumed();
        }
        // RFC 9113 §5.2.2: frames MUST be read as soon as they are available; but while the client does not read the
        // control frames that its own cause, nothing is read, or they would pile up (RFC 9113 §10.5).
        if !self.connection.accepts_input() {
            return Ok(Input::Pending);
        }
        match self.poll_read(cx)? {
            Poll::Pending => return Ok(Input::Pending),
            Poll::Ready(0) => return Ok(Input::End),
            Poll::Ready(_) => {}
        }
        self.handle_events()?;
        Ok(Input::Received)
    }

    /// Reads into the memory that a request offers, if only its data comes next and enough of it; else into the
    /// connection's buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some((stream, left)) = self.connection.unbuffered_data()
            && left >= MIN_DIRECT_BYTES
            && let Some(Request { sink: Sink::Buffered(intake), .. }) = self.requests.get_mut(&stream)
        {
            let buffer = intake.buffer();
            let length = buffer.len().min(left);
            if length > 0 {
                let received = ready!(poll_read(&mut self.socket, &mut buffer[..length], cx))?;
                intake.filled(received);
                self.connection.data_received(received);
                return Poll::Ready(Ok(received));
            }
        }
        let received = ready!(poll_read(&mut self.socket, self.connection.recv_buffer(), cx))?;
        self.connection.received(received);
        Poll::Ready(Ok(received))
    }

    fn handle_events(&mut self) -> Result<(), Error> {
        while let Some(event) = self.connection.poll_event().map_err(Error::Protocol)? {
            match event {
                Event::Request { stream, head, is_last } => self.begin(stream, head, is_last),
                Event::EndStream { stream } => self.finish(stream),
                Event::Reset { stream } => drop(self.requests.remove(&stream)),
                Event::Data { stream, bytes } => {
                    let length = bytes.len();
                    let pushed = match self.requests.get_mut(&stream).map(|request| &mut request.sink) {
                        Some(Sink::Buffered(intake)) => intake.push(bytes),
                        // Its capacity is released when it is read.
                        Some(Sink::Streaming(body)) => {
                            body.push(bytes);
                            continue;
                        }
                        Some(Sink::Discard) | None => Ok(()),
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
                let (sender, body) = request_body::channel(&self.bodies_read);
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
    fn poll_responses(&mut self, cx: &mut Context<'_>) -> bool {
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
            self.sending.push(stream);
        }
    }

    /// Queues what responses have and the connection takes; whether there was anything.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.connection.queued_bytes();
        let Self { connection, requests, sending, .. } = self;
        sending.retain(|&stream| {
            let sender = requests.get_mut(&stream).and_then(|request| request.sender.as_mut());
            let sent = sender.map(|sender| sender.poll(stream, connection, cx));
            if sent == Some(Sent::Failed) {
                connection.reset(stream, ErrorCode::Internal);
            }
            let is_pending = sent == Some(Sent::Pending);
            if !is_pending {
                requests.remove(&stream);
            }
            is_pending
        });
        // When the queue or the connection's window is full, another stream is the first next time.
        if sending.len() > 1 {
            sending.rotate_left(1);
        }
        connection.queued_bytes() > before
    }

    /// Releases the capacity of what was read from the bodies of streaming requests.
    fn release_consumed(&mut self) {
        for (&stream, request) in &self.requests {
            if let Sink::Streaming(body) = &request.sink {
                self.connection.release_capacity(stream, body.take_consumed());
            }
        }
    }

    /// Writes as much as the socket takes, many parts in one call. Ready when nothing is queued.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.queued_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = self.connection.transmit_slices(&mut slices);
            let sent = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..used]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.connection.transmitted(sent);
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads into `buffer`; how many bytes, 0 at the end.
fn poll_read(
    socket: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
