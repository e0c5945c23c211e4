//! The state machine alone: bytes in, frames and events out. No socket, no runtime, no clock.

mod abuse;
mod conformance;
mod connection_errors;
mod flow_control;
mod properties;
mod responses;
mod settings;
mod shutdown;
mod streams;
mod timers;

use std::{
    collections::{BTreeMap, HashMap},
    io::IoSlice,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Connection, DataSent, Event, Limits, SendBuffer, Timeouts};
use crate::{
    frame::{self, ErrorCode, FrameHeader, HEADER_BYTES, PREFACE, StreamId, flag, kind},
    hpack::{self, DEFAULT_TABLE_BYTES},
};

/// Flags of HEADERS that are a complete request.
const COMPLETE: u8 = flag::END_HEADERS | flag::END_STREAM;

/// An [`Event`] that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    Request { stream: StreamId, path: String, is_last: bool },
    Data { stream: StreamId, bytes: Vec<u8> },
    EndStream { stream: StreamId },
    Reset { stream: StreamId },
}

/// How the application answers a request.
enum Answer {
    /// `/wait`: never, and releases no capacity.
    Never,
    /// `/streamed`: with what it has got, at once.
    Streamed,
    /// Any other path: with the complete body.
    Echo(Vec<u8>),
}

/// A response's body.
#[derive(Default)]
struct Response {
    data: SendBuffer,
    is_complete: bool,
    trailers: Option<HeaderMap>,
}

/// A connection with its application, and a client that sends whatever a test wants.
struct Peer {
    connection: Connection,
    encoder: hpack::Encoder,
    answers: HashMap<StreamId, Answer>,
    responses: BTreeMap<StreamId, Response>,
    events: Vec<Record>,
    error: Option<ErrorCode>,
    /// What the connection has sent and no test has read.
    output: Vec<u8>,
    /// What the clock says: it stands unless a test moves it.
    now: Instant,
}

impl Peer {
    /// Before the preface.
    fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Before the preface, with other limits.
    fn with(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(limits, Timeouts::default(), now),
            encoder: hpack::Encoder::default(),
            answers: HashMap::new(),
            responses: BTreeMap::new(),
            events: Vec::new(),
            error: None,
            output: Vec::new(),
            now,
        }
    }

    /// After the preface.
    fn start() -> Self {
        let mut peer = Self::new();
        peer.send(&[PREFACE, &frame::settings(&[])].concat());
        peer
    }

    /// A request's HEADERS frame.
    fn head(&mut self, flags: u8, stream: StreamId, path: &str) -> Vec<u8> {
        let mut block = Vec::new();
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", path)];
        self.encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
        frame::frame(kind::HEADERS, flags, stream, &block)
    }

    /// Sends a request's HEADERS frame.
    fn send_head(&mut self, flags: u8, stream: StreamId, path: &str) {
        let head = self.head(flags, stream, path);
        self.send(&head);
    }

    /// Has the connection receive `bytes`, in as large pieces as it takes, and the application act on all events.
    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.error.is_none() {
            let buffer = self.connection.recv_buffer();
            let length = buffer.len().min(bytes.len());
            assert!(length > 0, "no room to receive");
            buffer[..length].copy_from_slice(&bytes[..length]);
            self.connection.received(length, self.now);
            bytes = &bytes[length..];
            self.act();
        }
    }

    /// The same, with data past the connection's buffer where it offers that.
    fn send_directly(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.error.is_none() {
            let Some((stream, left)) = self.connection.unbuffered_data() else {
                let one = &bytes[..1];
                bytes = &bytes[1..];
                self.send(one);
                continue;
            };
            let (data, rest) = bytes.split_at(left.min(bytes.len()));
            self.connection.data_received(data.len(), self.now);
            self.events.push(Record::Data { stream, bytes: data.to_vec() });
            bytes = rest;
            self.act();
        }
    }

    /// Handles all events, responds, and transmits all that is queued.
    fn act(&mut self) {
        while let Some(record) = self.next_event() {
            self.answer(&record);
            self.events.push(record);
        }
        self.respond();
    }

    fn next_event(&mut self) -> Option<Record> {
        match self.connection.poll_event() {
            Ok(event) => event.map(|event| match event {
                Event::Request { stream, head, is_last } => {
                    Record::Request { stream, path: head.uri.path().to_owned(), is_last }
                }
                Event::Data { stream, bytes } => Record::Data { stream, bytes: bytes.to_vec() },
                Event::EndStream { stream } => Record::EndStream { stream },
                Event::Reset { stream } => Record::Reset { stream },
            }),
            Err(code) => {
                self.error = Some(code);
                None
            }
        }
    }

    fn answer(&mut self, record: &Record) {
        match record {
            Record::Request { stream, path, is_last } => {
                let answer = match path.as_str() {
                    "/wait" => Answer::Never,
                    "/streamed" => {
                        self.connection.send_response(*stream, StatusCode::OK, &HeaderMap::new(), false);
                        self.responses.insert(*stream, Response::default());
                        Answer::Streamed
                    }
                    _ => Answer::Echo(Vec::new()),
                };
                self.answers.insert(*stream, answer);
                if *is_last {
                    self.end(*stream);
                }
            }
            Record::Data { stream, bytes } => {
                match self.answers.get_mut(stream) {
                    Some(Answer::Echo(body)) => body.extend_from_slice(bytes),
                    Some(Answer::Streamed) => {
                        self.responses.get_mut(stream).unwrap().data.push(Bytes::copy_from_slice(bytes));
                    }
                    Some(Answer::Never) => return,
                    None => panic!("data of a stream that is closed"),
                }
                self.connection.release_capacity(*stream, bytes.len());
            }
            Record::EndStream { stream } => self.end(*stream),
            Record::Reset { stream } => {
                assert!(self.answers.remove(stream).is_some(), "a reset of a stream that is closed");
                self.responses.remove(stream);
            }
        }
    }

    /// A request is complete.
    fn end(&mut self, stream: StreamId) {
        match self.answers.get_mut(&stream) {
            Some(Answer::Echo(body)) => {
                let length = body.len().to_string();
                let mut response = Response { is_complete: true, ..Response::default() };
                response.data.push(std::mem::take(body).into());
                response.trailers = Some(HeaderMap::from_iter([("length".parse().unwrap(), length.parse().unwrap())]));
                self.connection.send_response(stream, StatusCode::OK, &HeaderMap::new(), false);
                self.responses.insert(stream, response);
            }
            Some(Answer::Streamed) => self.responses.get_mut(&stream).unwrap().is_complete = true,
            Some(Answer::Never) => {}
            None => panic!("the end of a stream that is closed"),
        }
    }

    /// Sends what the windows allow, and moves it to `output`.
    fn respond(&mut self) {
        loop {
            let connection = &mut self.connection;
            let answers = &mut self.answers;
            self.responses.retain(|&stream, response| {
                let is_open = send(connection, stream, response);
                if !is_open {
                    answers.remove(&stream);
                }
                is_open
            });
            if self.connection.queued_bytes() == 0 {
                return;
            }
            self.transmit();
        }
    }

    /// Moves what is queued to `output`.
    fn transmit(&mut self) {
        while self.connection.queued_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = self.connection.transmit_slices(&mut slices);
            assert!(used > 0);
            // Not all of it, so that parts are split.
            let bytes = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            let sent = &bytes[..bytes.len().min(10_007)];
            self.output.extend_from_slice(sent);
            self.connection.transmitted(sent.len(), self.now);
        }
    }

    /// The next frame that was sent.
    fn next_frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        self.transmit();
        let header = FrameHeader::parse(*self.output.first_chunk::<HEADER_BYTES>()?);
        let end = HEADER_BYTES + header.length as usize;
        let payload = self.output[HEADER_BYTES..end].to_vec();
        self.output.drain(..end);
        Some((header, payload))
    }

    /// The next frame that was sent, but for SETTINGS and WINDOW_UPDATE.
    fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        std::iter::from_fn(|| self.next_frame())
            .find(|(header, _)| !matches!(header.kind, kind::SETTINGS | kind::WINDOW_UPDATE))
    }

    /// The increments of all WINDOW_UPDATE frames of `stream`, which are discarded with all other frames.
    fn increments(&mut self, stream: StreamId) -> u64 {
        std::iter::from_fn(|| self.next_frame())
            .filter(|(header, _)| header.kind == kind::WINDOW_UPDATE && header.stream == stream)
            .map(|(_, payload)| u64::from(u32::from_be_bytes(*payload.first_chunk().unwrap())))
            .sum()
    }

    /// The code of the GOAWAY that comes next, after which the connection is closed.
    fn connection_error(mut self) -> u32 {
        let (header, payload) = self.next().unwrap();
        assert_eq!(header.kind, kind::GOAWAY, "{header:?}");
        assert!(self.next().is_none());
        assert!(self.connection.is_closed());
        let code = u32::from_be_bytes(*payload.last_chunk().unwrap());
        assert_eq!(self.connection.poll_event().unwrap_err() as u32, code);
        assert!(self.next().is_none(), "a second GOAWAY");
        code
    }

    /// The code of the RST_STREAM that comes next for `stream`.
    fn stream_error(&mut self, stream: StreamId) -> u32 {
        let (header, payload) = self.next().unwrap();
        assert_eq!((header.kind, header.stream), (kind::RST_STREAM, stream), "{header:?}");
        u32::from_be_bytes(*payload.first_chunk().unwrap())
    }

    /// Checks that a request on this stream is answered.
    fn works(&mut self, stream: StreamId) {
        self.send_head(COMPLETE, stream, "/whole");
        let (header, _) = self.next().unwrap();
        assert_eq!((header.kind, header.stream), (kind::HEADERS, stream), "{header:?}");
        let (header, _) = self.next().unwrap();
        assert_eq!((header.kind, header.flags & flag::END_STREAM), (kind::HEADERS, flag::END_STREAM));
    }
}

/// Sends what can be sent of a response; whether its stream is still open.
fn send(connection: &mut Connection, stream: StreamId, response: &mut Response) -> bool {
    loop {
        if response.data.is_empty() {
            if !response.is_complete {
                return true;
            }
            if let Some(trailers) = &response.trailers {
                connection.send_trailers(stream, trailers);
                return false;
            }
        }
        let is_last = response.is_complete && response.trailers.is_none();
        match connection.send_data(stream, &mut response.data, is_last) {
            DataSent::Frame => {}
            DataSent::StreamBlocked | DataSent::Blocked => return true,
            DataSent::Last | DataSent::Closed => return false,
        }
    }
}

/// The fields of a field block that no other block preceded.
fn decode(block: &[u8]) -> Vec<(Bytes, Bytes)> {
    let mut fields = Vec::new();
    hpack::Decoder::new(DEFAULT_TABLE_BYTES).decode(block, |name, value| fields.push((name, value))).unwrap();
    fields
}
