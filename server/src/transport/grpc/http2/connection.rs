//! A connection's task: reads frames, hands requests on, and sends what is answered.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use http::{Response, StatusCode};
use http_body::Body as _;
use quintet_proto::{
    hpack::{DEFAULT_TABLE_BYTES, Decoder},
    http2::{
        self, DEFAULT_MAX_FRAME_BYTES, DEFAULT_WINDOW_BYTES, FrameHeader, HEADER_BYTES, PREFACE, flag, kind, setting,
    },
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Answering, CONNECTION_WINDOW_BYTES, Handler, MAX_BLOCK_BYTES, MAX_CONCURRENT_STREAMS, MAX_CONTROL_BYTES,
    MAX_FRAME_BYTES, MAX_HEADER_LIST_BYTES, STREAM_WINDOW_BYTES, Taken, body,
    buffer::{self, Buffer},
    head,
    output::Output,
    stream::{Receiving, Sending, Sent, Stream},
    window::{Receive, Send},
};

/// From how many bytes on the rest of a frame is read past the buffer.
const DIRECT_BYTES: usize = 4 << 10;
/// Largest stream: what a GOAWAY names that refuses none yet.
const LAST_STREAM: u32 = http2::MAX_WINDOW_BYTES;
/// The PING behind such a GOAWAY: when it comes back, the client knows.
const LEAVING: [u8; 8] = *b"leaving\0";

/// Why a connection or a stream ends (RFC 9113, section 7).
#[allow(clippy::upper_case_acronyms)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// Why a connection ends at once.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The client broke a rule; it is told so.
    #[error("the client broke a rule of HTTP/2: {0:?}")]
    Rule(Code),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

use Broken::Rule;

/// What the next bytes are.
enum Ahead {
    Preface,
    Header {
        is_first: bool,
    },
    /// The payload of a frame that is no data.
    Payload(FrameHeader),
    /// How many bytes of a frame of data are padding.
    PadLength(FrameHeader),
    Data(Data),
    /// To be passed over.
    Skip(usize),
}

const NEXT: Ahead = Ahead::Header { is_first: false };

/// What came of reading.
enum Input {
    Nothing,
    Some,
    /// The client has ended the connection.
    End,
}

/// What is left of a frame of data.
#[derive(Clone, Copy)]
struct Data {
    stream: u32,
    left: usize,
    padding: usize,
    is_last: bool,
}

/// A block of fields that is not whole.
struct Block {
    stream: u32,
    is_last: bool,
    bytes: Vec<u8>,
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

pub(super) struct Connection<S, H> {
    socket: S,
    handler: H,
    buffer: Buffer,
    ahead: Ahead,
    payload: Vec<u8>,
    block: Option<Block>,
    decoder: Decoder,
    streams: HashMap<u32, Stream>,
    /// The last one that the client opened.
    last_stream: u32,
    answering: FuturesUnordered<Abortable<Numbered>>,
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

/// A stream's answer.
struct Numbered {
    stream: u32,
    answering: Answering,
}

impl Future for Numbered {
    type Output = (u32, Response<tonic::body::Body>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.answering.as_mut().poll(cx));
        Poll::Ready((self.stream, response))
    }
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
            buffer: Buffer::new(),
            ahead: Ahead::Preface,
            payload: Vec::new(),
            block: None,
            decoder: Decoder::new(DEFAULT_TABLE_BYTES),
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
    ) -> Poll<anyhow::Result<()>> {
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
                    return Poll::Ready(self.broken.take().map_or(Ok(()), |broken| Err(broken.into())));
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
        if matches!(self.ahead, Ahead::Preface) {
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

    /// Reads once, and does what the frames say that are there.
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
        while self.step()? {}
        Ok(Input::Some)
    }

    /// Reads to where a request wants its bytes, if that is known and they are many; else into the buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Ahead::Data(data) = &mut self.ahead
            && data.left >= DIRECT_BYTES
            && let Some(Stream { receiving: Receiving::Whole(intake), .. }) = self.streams.get_mut(&data.stream)
        {
            let place = intake.place();
            let most = place.len().min(data.left);
            if most > 0 {
                let got = ready!(buffer::poll_read(&mut place[..most], &mut self.socket, cx))?;
                intake.filled(got);
                data.left -= got;
                let data = *data;
                self.release(data, got);
                return Poll::Ready(Ok(got));
            }
        }
        self.buffer.poll_read(&mut self.socket, cx)
    }

    /// Goes on with what is in the buffer; whether it can.
    fn step(&mut self) -> Result<bool, Broken> {
        match self.ahead {
            Ahead::Preface => {
                let unread = self.buffer.unread();
                if !PREFACE.starts_with(&unread[..unread.len().min(PREFACE.len())]) {
                    return Err(Rule(Code::Protocol));
                }
                if unread.len() < PREFACE.len() {
                    return Ok(false);
                }
                self.buffer.advance(PREFACE.len());
                self.ahead = Ahead::Header { is_first: true };
            }
            Ahead::Header { is_first } => {
                let Some(bytes) = self.buffer.take::<HEADER_BYTES>() else { return Ok(false) };
                let header = FrameHeader::parse(bytes);
                if is_first && header.kind != kind::SETTINGS {
                    return Err(Rule(Code::Protocol));
                }
                self.ahead = self.header(header)?;
            }
            Ahead::Payload(header) => {
                let missing = header.length as usize - self.payload.len();
                let some = missing.min(self.buffer.unread().len());
                self.payload.extend_from_slice(&self.buffer.unread()[..some]);
                self.buffer.advance(some);
                if some < missing {
                    return Ok(false);
                }
                self.ahead = NEXT;
                let mut payload = std::mem::take(&mut self.payload);
                self.frame(header, &payload)?;
                payload.clear();
                self.payload = payload;
            }
            Ahead::PadLength(header) => {
                let Some([padding]) = self.buffer.take() else { return Ok(false) };
                let padding = usize::from(padding);
                let Some(left) = (header.length as usize - 1).checked_sub(padding) else {
                    return Err(Rule(Code::Protocol));
                };
                let data = Data { stream: header.stream, left, padding, is_last: header.has(flag::END_STREAM) };
                self.release(data, padding + 1);
                self.ahead = Ahead::Data(data);
            }
            Ahead::Data(Data { left: 0, padding, stream, is_last }) => {
                self.ahead = if padding == 0 { NEXT } else { Ahead::Skip(padding) };
                if is_last {
                    self.end(stream);
                }
            }
            Ahead::Data(data) => return Ok(self.data(data)),
            Ahead::Skip(left) => {
                let some = left.min(self.buffer.unread().len());
                self.buffer.advance(some);
                self.ahead = if some == left { NEXT } else { Ahead::Skip(left - some) };
                return Ok(some == left);
            }
        }
        Ok(true)
    }

    /// What stands behind a frame's header.
    fn header(&mut self, header: FrameHeader) -> Result<Ahead, Broken> {
        let FrameHeader { length, kind, stream, .. } = header;
        // Nothing comes between the parts of a block (section 6.10).
        let is_continued = self.block.as_ref().map(|block| block.stream);
        if is_continued.is_some_and(|of| kind != kind::CONTINUATION || of != stream) {
            return Err(Rule(Code::Protocol));
        }
        if length > MAX_FRAME_BYTES {
            return Err(Rule(Code::FrameSize));
        }
        let is_of_stream = match kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM | kind::PRIORITY => Some(true),
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
            _ => None,
        };
        if is_of_stream.is_some_and(|is| is != (stream != 0)) {
            return Err(Rule(Code::Protocol));
        }
        let has_right_size = match kind {
            kind::SETTINGS if header.has(flag::ACK) => length == 0,
            kind::SETTINGS => length.is_multiple_of(6),
            kind::PING => length == 8,
            kind::GOAWAY => length >= 8,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::PRIORITY => length == 5,
            kind::DATA if header.has(flag::PADDED) => length > 0,
            _ => true,
        };
        if !has_right_size {
            return Err(Rule(Code::FrameSize));
        }
        match kind {
            kind::DATA => self.begin_data(header),
            kind::PUSH_PROMISE => Err(Rule(Code::Protocol)),
            kind::CONTINUATION if is_continued.is_none() => Err(Rule(Code::Protocol)),
            kind::PRIORITY..=kind::CONTINUATION | kind::HEADERS => {
                let before = self.block.as_ref().map_or(0, |block| block.bytes.len());
                if before + length as usize > MAX_BLOCK_BYTES {
                    return Err(Rule(Code::EnhanceYourCalm));
                }
                Ok(Ahead::Payload(header))
            }
            // Of an extension that we do not know.
            _ => Ok(Ahead::Skip(length as usize)),
        }
    }

    fn begin_data(&mut self, header: FrameHeader) -> Result<Ahead, Broken> {
        let FrameHeader { length, stream, .. } = header;
        self.must_be_opened(stream)?;
        if !self.receive_window.take(length) {
            return Err(Rule(Code::FlowControl));
        }
        if let Some(open) = self.streams.get_mut(&stream) {
            if matches!(open.receiving, Receiving::Ended) {
                self.reset(stream, Code::StreamClosed);
            } else if !open.receive_window.take(length) {
                return Err(Rule(Code::FlowControl));
            }
        }
        if header.has(flag::PADDED) {
            return Ok(Ahead::PadLength(header));
        }
        let (left, is_last) = (length as usize, header.has(flag::END_STREAM));
        Ok(Ahead::Data(Data { stream, left, padding: 0, is_last }))
    }

    /// Streams that nobody has opened yet have no frames but the one that opens them.
    fn must_be_opened(&self, stream: u32) -> Result<(), Broken> {
        if stream > self.last_stream || stream.is_multiple_of(2) { Err(Rule(Code::Protocol)) } else { Ok(()) }
    }

    /// Hands on as much of a frame of data as is there; whether all of it was.
    fn data(&mut self, mut data: Data) -> bool {
        let some = data.left.min(self.buffer.unread().len());
        let bytes = &self.buffer.unread()[..some];
        let taken = match self.streams.get_mut(&data.stream) {
            Some(Stream { receiving: Receiving::Whole(intake), .. }) => intake.push(bytes),
            Some(Stream { receiving: Receiving::Streamed, inlet: Some(inlet), .. }) => {
                inlet.push(bytes);
                Ok(())
            }
            _ => Ok(()),
        };
        self.buffer.advance(some);
        data.left -= some;
        self.ahead = Ahead::Data(data);
        self.release(data, some);
        if let Err(refusal) = taken {
            self.respond(data.stream, *refusal);
        }
        data.left == 0
    }

    /// Bytes of a frame were used, or never will be: the client may send more. Those of a body that is answered while
    /// it comes are used when they are read.
    fn release(&mut self, data: Data, bytes: usize) {
        let stream = self.streams.get_mut(&data.stream);
        if stream.as_ref().is_some_and(|stream| matches!(stream.receiving, Receiving::Streamed)) {
            return;
        }
        if let Some(stream) = stream.filter(|_| !data.is_last)
            && let Some(more) = stream.receive_window.release(bytes as u32)
        {
            self.output.control(http2::window_update(data.stream, more));
        }
        self.release_connection(bytes);
    }

    fn release_connection(&mut self, bytes: usize) {
        if let Some(more) = self.receive_window.release(bytes as u32) {
            self.output.control(http2::window_update(0, more));
        }
    }

    fn release_what_was_read(&mut self) {
        let mut all = 0;
        for (&number, stream) in &mut self.streams {
            let Some(inlet) = &stream.inlet else { continue };
            let used = inlet.used();
            all += used;
            if let Some(more) = stream.receive_window.release(used as u32)
                && matches!(stream.receiving, Receiving::Streamed)
            {
                self.output.control(http2::window_update(number, more));
            }
        }
        self.release_connection(all);
    }

    /// A whole frame that is no data.
    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Broken> {
        let stream = header.stream;
        let number = || payload.first_chunk().map_or(0, |&bytes| u32::from_be_bytes(bytes));
        match header.kind {
            kind::HEADERS => {
                let block = http2::content(header, payload).ok_or(Rule(Code::Protocol))?;
                let block = Block { stream, is_last: header.has(flag::END_STREAM), bytes: block.to_vec() };
                self.block_part(header, block)
            }
            kind::CONTINUATION => {
                let mut block = self.block.take().ok_or(Rule(Code::Protocol))?;
                block.bytes.extend_from_slice(payload);
                self.block_part(header, block)
            }
            kind::SETTINGS if !header.has(flag::ACK) => self.settings(payload),
            kind::PING if !header.has(flag::ACK) => {
                self.output.control(http2::frame(kind::PING, flag::ACK, 0, payload));
                Ok(())
            }
            kind::PING => {
                if self.leaving == Leaving::Announced && payload == LEAVING {
                    self.leaving = Leaving::Yes;
                    self.output.control(go_away(self.last_stream, Code::NoError));
                }
                Ok(())
            }
            kind::GOAWAY => {
                self.leaving = Leaving::Yes;
                Ok(())
            }
            kind::RST_STREAM => {
                self.must_be_opened(stream)?;
                self.remove(stream);
                Ok(())
            }
            kind::WINDOW_UPDATE => self.window_update(stream, number() & http2::MAX_WINDOW_BYTES),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Broken> {
        for (name, value) in http2::read_settings(payload) {
            match name {
                setting::HEADER_TABLE_SIZE => self.output.set_max_table_bytes(value as usize),
                setting::ENABLE_PUSH if value > 1 => return Err(Rule(Code::Protocol)),
                setting::INITIAL_WINDOW_SIZE => {
                    let by = i64::from(value) - i64::from(self.send_window_bytes);
                    self.send_window_bytes = value;
                    if value > http2::MAX_WINDOW_BYTES
                        || !self.streams.values_mut().all(|stream| stream.send_window.change(by))
                    {
                        return Err(Rule(Code::FlowControl));
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    if !(DEFAULT_MAX_FRAME_BYTES..1 << 24).contains(&value) {
                        return Err(Rule(Code::Protocol));
                    }
                    self.output.max_frame_bytes = value;
                }
                _ => {}
            }
        }
        self.output.control(http2::frame(kind::SETTINGS, flag::ACK, 0, &[]));
        Ok(())
    }

    fn window_update(&mut self, stream: u32, more: u32) -> Result<(), Broken> {
        if stream == 0 {
            return match (more, self.send_window.change(more.into())) {
                (0, _) => Err(Rule(Code::Protocol)),
                (_, false) => Err(Rule(Code::FlowControl)),
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

    /// A block of fields, which may be whole by now.
    fn block_part(&mut self, header: FrameHeader, block: Block) -> Result<(), Broken> {
        if !header.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let Block { stream, is_last, bytes } = block;
        let mut head = head::Request::default();
        // Whatever it belongs to, it changes the table of fields.
        let decoded = self.decoder.decode(&bytes, |name, value| head.take(name, value));
        decoded.map_err(|_| Rule(Code::Compression))?;
        if stream.is_multiple_of(2) {
            return Err(Rule(Code::Protocol));
        }
        match self.streams.get(&stream) {
            // Trailers, of which gRPC's clients send none.
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
                let mut refusal = Response::new(tonic::body::Body::empty());
                *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                Taken::Answered(refusal)
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

    /// Has an answer made.
    fn answer(&mut self, stream: u32, answering: Answering) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        let (handle, registration) = AbortHandle::new_pair();
        open.answering = Some(handle);
        self.answering.push(Abortable::new(Numbered { stream, answering }, registration));
    }

    /// Sends what was answered; whether anything was.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
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
    fn respond(&mut self, stream: u32, response: Response<tonic::body::Body>) {
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
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> bool {
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
    fn finish(&mut self, stream: u32) {
        let is_whole = self.streams.get(&stream).is_some_and(|open| matches!(open.receiving, Receiving::Ended));
        if is_whole { self.remove(stream) } else { self.reset(stream, Code::NoError) }
    }

    /// Ends a stream, and tells the client why.
    fn reset(&mut self, stream: u32, code: Code) {
        self.output.control(http2::frame(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes()));
        self.remove(stream);
    }

    fn remove(&mut self, stream: u32) {
        let removed = self.streams.remove(&stream);
        let unread = removed.and_then(|stream| stream.inlet.as_ref().map(|inlet| inlet.abandon()));
        self.release_connection(unread.unwrap_or(0));
    }
}

fn go_away(last_stream: u32, code: Code) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), (code as u32).to_be_bytes()].concat();
    http2::frame(kind::GOAWAY, 0, 0, &payload)
}
