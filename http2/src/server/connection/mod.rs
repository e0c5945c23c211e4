//! A connection's task: does what the client says, and hands requests on.

mod answers;

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::frame::{self as http2, DEFAULT_MAX_FRAME_BYTES, DEFAULT_WINDOW_BYTES, flag, kind, setting};
use futures_util::{future::Abortable, stream::FuturesUnordered};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use self::answers::Numbered;
use super::{
    CONNECTION_WINDOW_BYTES, Handler, MAX_CONCURRENT_STREAMS, MAX_CONTROL_BYTES, MAX_FRAME_BYTES,
    MAX_HEADER_LIST_BYTES, STREAM_WINDOW_BYTES, Taken, body, buffer,
    error::{
        Broken::{self, Rule},
        Code,
    },
    head,
    output::Output,
    reader::{Data, Event, Reader},
    stream::{Receiving, Stream},
    window::{Receive, Send},
};

/// From how many bytes on the rest of a frame is read past the buffer.
const DIRECT_BYTES: usize = 4 << 10;
/// Largest stream: what a GOAWAY names that refuses none yet.
const LAST_STREAM: u32 = http2::MAX_WINDOW_BYTES;
/// The PING behind such a GOAWAY: when it comes back, the client knows.
const LEAVING: [u8; 8] = *b"leaving\0";

/// What came of reading.
enum Input {
    Nothing,
    Some,
    /// The client has ended the connection.
    End,
}

/// How far the end of a connection is.
#[derive(PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told, and may have sent requests before it knew.
    Announced,
    /// No further requests are taken.
    Yes,
}

pub(super) struct Connection<S, H: Handler> {
    socket: S,
    handler: H,
    reader: Reader,
    streams: HashMap<u32, Stream<H::Body>>,
    /// The last one that the client opened.
    last_stream: u32,
    answering: FuturesUnordered<Abortable<Numbered<H::Body>>>,
    /// Streams whose answer is being sent.
    sending: Vec<u32>,
    /// Of bodies that are answered while they come.
    read: Arc<body::Read>,
    output: Output,
    receive_window: Receive,
    send_window: Send,
    /// Of a stream that the client opens.
    send_window_bytes: u32,
    leaving: Leaving,
    broken: Option<Broken>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    pub(super) fn new(socket: S, handler: H) -> Self {
        let mut output = Output::new();
        output.control(http2::settings(&[
            (setting::MAX_CONCURRENT_STREAMS, MAX_CONCURRENT_STREAMS),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (setting::MAX_FRAME_SIZE, MAX_FRAME_BYTES),
            (setting::MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST_BYTES),
        ]));
        output.control(http2::window_update(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
        Self {
            socket,
            handler,
            reader: Reader::new(),
            streams: HashMap::new(),
            last_stream: 0,
            answering: FuturesUnordered::new(),
            sending: Vec::new(),
            read: Arc::default(),
            output,
            receive_window: Receive::new(CONNECTION_WINDOW_BYTES),
            send_window: Send::default(),
            send_window_bytes: DEFAULT_WINDOW_BYTES,
            leaving: Leaving::No,
            broken: None,
        }
    }

    /// Does all that can be done now. Ready when the connection has ended.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<(), Broken>> {
        self.read.register(cx.waker());
        loop {
            if self.leaving == Leaving::No && stopped.as_mut().poll(cx).is_ready() {
                self.leave();
            }
            let mut moved = false;
            if self.broken.is_none() {
                match self.poll_input(cx) {
                    Ok(Input::Nothing) => {}
                    Ok(Input::Some) => moved = true,
                    Ok(Input::End) => return Poll::Ready(Ok(())),
                    Err(Broken::Socket(error)) => return Poll::Ready(Err(error.into())),
                    Err(broken) => self.give_up(broken),
                }
                moved |= self.poll_answers(cx);
                moved |= self.poll_sending(cx);
            }
            let before = self.output.bytes();
            match self.output.poll_write(&mut self.socket, cx) {
                // A client that has what it wants need not hear the last of it.
                Poll::Ready(_) if self.is_over() => {
                    let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
                    return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                _ => {}
            }
            if !moved && self.output.bytes() == before {
                return Poll::Pending;
            }
        }
    }

    /// Tells the client that the server ends: what it sent until it knows is answered.
    fn leave(&mut self) {
        if !self.reader.has_begun() {
            self.leaving = Leaving::Yes;
            return;
        }
        self.leaving = Leaving::Announced;
        self.output.control(go_away(LAST_STREAM, Code::NoError));
        self.output.control(http2::frame(kind::PING, 0, 0, &LEAVING));
    }

    fn is_over(&self) -> bool {
        self.broken.is_some() || (self.leaving == Leaving::Yes && self.streams.is_empty())
    }

    /// Ends all requests, and tells the client which rule it broke.
    fn give_up(&mut self, broken: Broken) {
        if let Rule(code) = broken {
            self.output.control(go_away(self.last_stream, code));
        }
        self.broken = Some(broken);
        self.streams.clear();
        self.answering.clear();
        self.sending.clear();
    }

    /// Reads once, and does what the client says.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<Input, Broken> {
        if self.read.take() {
            self.release_what_was_read();
        }
        // Who does not take what we have to say is not heard.
        if self.output.control_bytes() > MAX_CONTROL_BYTES {
            return Ok(Input::Nothing);
        }
        match self.poll_read(cx)? {
            Poll::Pending => return Ok(Input::Nothing),
            Poll::Ready(0) => return Ok(Input::End),
            Poll::Ready(_) => {}
        }
        while let Some(event) = self.reader.next().map_err(Rule)? {
            self.take(event).map_err(Rule)?;
        }
        Ok(Input::Some)
    }

    /// Reads to where a request wants its bytes, if that is known and they are many; else into the buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(data) = self.reader.rest()
            && data.left >= DIRECT_BYTES
            && let Some(Stream { receiving: Receiving::Whole(intake), .. }) = self.streams.get_mut(&data.stream)
        {
            let place = intake.place();
            let most = place.len().min(data.left);
            if most > 0 {
                let got = ready!(buffer::poll_read(&mut place[..most], &mut self.socket, cx))?;
                intake.filled(got);
                self.reader.was_read(got);
                self.release(data.stream, got as u32, data.is_last);
                return Poll::Ready(Ok(got));
            }
        }
        self.reader.poll_read(&mut self.socket, cx)
    }

    /// Does what the client says.
    fn take(&mut self, event: Event) -> Result<(), Code> {
        match event {
            Event::Data { stream, length, overhead } => self.begin_data(stream, length, overhead)?,
            Event::Piece(data) => self.data(data),
            Event::End { stream } => self.end(stream),
            Event::Fields { stream, is_last, head } => self.fields(stream, is_last, head)?,
            Event::Settings(settings) => self.settings(settings)?,
            Event::Ping(payload) => self.output.control(http2::frame(kind::PING, flag::ACK, 0, &payload)),
            Event::Pong(payload) => {
                if self.leaving == Leaving::Announced && payload == LEAVING {
                    self.leaving = Leaving::Yes;
                    self.output.control(go_away(self.last_stream, Code::NoError));
                }
            }
            Event::GoAway => self.leaving = Leaving::Yes,
            Event::Reset { stream } => {
                self.must_be_opened(stream)?;
                self.remove(stream);
            }
            Event::Window { stream, more } => self.window_update(stream, more)?,
        }
        Ok(())
    }

    /// Streams that nobody has opened yet have no frames but the one that opens them.
    fn must_be_opened(&self, stream: u32) -> Result<(), Code> {
        if stream > self.last_stream || stream.is_multiple_of(2) { Err(Code::Protocol) } else { Ok(()) }
    }

    fn begin_data(&mut self, stream: u32, length: u32, overhead: u32) -> Result<(), Code> {
        self.must_be_opened(stream)?;
        if !self.receive_window.take(length) {
            return Err(Code::FlowControl);
        }
        if let Some(open) = self.streams.get_mut(&stream) {
            if matches!(open.receiving, Receiving::Ended) {
                self.reset(stream, Code::StreamClosed);
            } else if !open.receive_window.take(length) {
                return Err(Code::FlowControl);
            }
        }
        self.release_both(stream, overhead);
        Ok(())
    }

    /// Hands on as much of a frame of data as is there.
    fn data(&mut self, data: Data) {
        let bytes = self.reader.piece(data);
        let length = bytes.len();
        let taken = match self.streams.get_mut(&data.stream) {
            Some(Stream { receiving: Receiving::Whole(intake), .. }) => intake.push(bytes),
            Some(Stream { receiving: Receiving::Streamed, inlet: Some(inlet), .. }) => {
                inlet.push(bytes);
                Ok(())
            }
            _ => Ok(()),
        };
        self.reader.was_used(length);
        self.release(data.stream, length as u32, data.is_last);
        if let Err(refusal) = taken {
            self.respond(data.stream, *refusal);
        }
    }

    /// Data was used, or never will be: the client may send more. Those of a body that is answered while it comes are
    /// used when they are read.
    fn release(&mut self, stream: u32, bytes: u32, is_last: bool) {
        match self.streams.get(&stream) {
            Some(Stream { receiving: Receiving::Streamed, .. }) => {}
            Some(_) if !is_last => self.release_both(stream, bytes),
            _ => self.release_connection(bytes),
        }
    }

    fn release_both(&mut self, stream: u32, bytes: u32) {
        let window = self.streams.get_mut(&stream).map(|stream| &mut stream.receive_window);
        if let Some(more) = window.and_then(|window| window.release(bytes)) {
            self.output.control(http2::window_update(stream, more));
        }
        self.release_connection(bytes);
    }

    fn release_connection(&mut self, bytes: u32) {
        if let Some(more) = self.receive_window.release(bytes) {
            self.output.control(http2::window_update(0, more));
        }
    }

    fn release_what_was_read(&mut self) {
        let mut all = 0;
        for (&number, stream) in &mut self.streams {
            let Some(inlet) = &stream.inlet else { continue };
            let used = inlet.used() as u32;
            all += used;
            if let Some(more) = stream.receive_window.release(used)
                && matches!(stream.receiving, Receiving::Streamed)
            {
                self.output.control(http2::window_update(number, more));
            }
        }
        self.release_connection(all);
    }

    fn settings(&mut self, settings: Vec<(u16, u32)>) -> Result<(), Code> {
        for (name, value) in settings {
            match name {
                setting::HEADER_TABLE_SIZE => self.output.set_max_table_bytes(value as usize),
                setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol),
                setting::INITIAL_WINDOW_SIZE => {
                    let by = i64::from(value) - i64::from(self.send_window_bytes);
                    self.send_window_bytes = value;
                    if value > http2::MAX_WINDOW_BYTES
                        || !self.streams.values_mut().all(|stream| stream.send_window.change(by))
                    {
                        return Err(Code::FlowControl);
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    if !(DEFAULT_MAX_FRAME_BYTES..1 << 24).contains(&value) {
                        return Err(Code::Protocol);
                    }
                    self.output.max_frame_bytes = value;
                }
                _ => {}
            }
        }
        self.output.control(http2::frame(kind::SETTINGS, flag::ACK, 0, &[]));
        Ok(())
    }

    fn window_update(&mut self, stream: u32, more: u32) -> Result<(), Code> {
        if stream == 0 {
            return match (more, self.send_window.change(more.into())) {
                (0, _) => Err(Code::Protocol),
                (_, false) => Err(Code::FlowControl),
                (_, true) => Ok(()),
            };
        }
        self.must_be_opened(stream)?;
        let Some(open) = self.streams.get_mut(&stream) else { return Ok(()) };
        if more == 0 {
            self.reset(stream, Code::Protocol);
        } else if !open.send_window.change(more.into()) {
            self.reset(stream, Code::FlowControl);
        }
        Ok(())
    }

    /// Fields of a request that begins, or that stand behind its data: gRPC's clients send none there.
    fn fields(&mut self, stream: u32, is_last: bool, head: head::Request) -> Result<(), Code> {
        if stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        match self.streams.get(&stream) {
            Some(open) if matches!(open.receiving, Receiving::Ended) => self.reset(stream, Code::StreamClosed),
            Some(_) if is_last => self.end(stream),
            Some(_) => self.reset(stream, Code::Protocol),
            // Of a stream that is closed.
            None if stream <= self.last_stream => {}
            None => self.open(stream, is_last, head),
        }
        Ok(())
    }

    /// A request begins.
    fn open(&mut self, stream: u32, is_last: bool, head: head::Request) {
        self.last_stream = stream;
        // The client has been told that nobody will look at it.
        if self.leaving == Leaving::Yes {
            return;
        }
        if self.streams.len() >= MAX_CONCURRENT_STREAMS as usize {
            return self.reset(stream, Code::RefusedStream);
        }
        let taken = match head.finish() {
            Ok(head) => self.handler.begin(head),
            Err(head::Refused::Malformed) => return self.reset(stream, Code::Protocol),
            Err(head::Refused::TooLarge) => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                self.output.fields(stream, true, head::of_answer(&status, &HeaderMap::new()));
                let receiving = if is_last { Receiving::Ended } else { Receiving::Nowhere };
                self.streams.insert(stream, Stream::new(receiving, self.send_window_bytes));
                return self.finish(stream);
            }
        };
        let open = |receiving| Stream::new(receiving, self.send_window_bytes);
        match taken {
            Taken::Whole(intake) => drop(self.streams.insert(stream, open(Receiving::Whole(intake)))),
            Taken::Streamed(answer) => {
                let (inlet, body) = body::new(&self.read);
                let mut new = open(Receiving::Streamed);
                new.inlet = Some(inlet);
                self.streams.insert(stream, new);
                self.answer(stream, answer(body));
            }
            Taken::Answered(response) => {
                let receiving = if is_last { Receiving::Ended } else { Receiving::Nowhere };
                self.streams.insert(stream, open(receiving));
                return self.respond(stream, response);
            }
        }
        if is_last {
            self.end(stream);
        }
    }

    /// The client has sent all of a request.
    fn end(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        if let Some(inlet) = &open.inlet {
            inlet.end();
        }
        if let Receiving::Whole(intake) = std::mem::replace(&mut open.receiving, Receiving::Ended) {
            self.answer(stream, intake.end());
        }
    }
}

fn go_away(last_stream: u32, code: Code) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), (code as u32).to_be_bytes()].concat();
    http2::frame(kind::GOAWAY, 0, 0, &payload)
}
