//! A connection of HTTP/2, whose bytes come in pieces: they mean the same as at once, and what is sent is valid.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use quintet_http2::{
    connection::{Connection, DataSent, Event, Limits, SendBuffer, Timeouts},
    frame::{self, ErrorCode, FrameHeader, HEADER_BYTES, PREFACE, StreamId, flag, kind},
    hpack::{DEFAULT_TABLE_BYTES, Decoder},
};

use crate::input::{Input, Pieces};

/// An [`Event`] that owns its data. Adjacent data is joined.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    Request { stream: StreamId, head: String, is_last: bool },
    Data { stream: StreamId, bytes: Vec<u8> },
    EndStream { stream: StreamId },
    Reset { stream: StreamId },
}

/// A request that is not answered yet.
#[derive(Default)]
struct Answer {
    /// Whether it is answered while its body arrives (`/streamed`).
    is_streamed: bool,
    /// Whether it is never answered, and its body stays unread (`/wait`).
    waits: bool,
    data: SendBuffer,
    is_complete: bool,
    has_head: bool,
}

/// A connection with its application.
struct Server {
    connection: Connection,
    answers: BTreeMap<StreamId, Answer>,
    events: Vec<Record>,
    error: Option<ErrorCode>,
    sent: Vec<u8>,
    /// Whether requests are answered.
    responds: bool,
    /// The time, which does not pass.
    now: Instant,
}

/// The input: flags, how the bytes are cut, and frames or bytes.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (flags, seed) = (input.byte(), input.byte());
    let mut bytes = if flags & 1 != 0 { [PREFACE, &frame::settings(&[])].concat() } else { Vec::new() };
    if flags & 2 != 0 {
        bytes.extend(frames(input));
    } else {
        bytes.extend_from_slice(input.0);
    }
    let whole = Server::receive(&bytes, Pieces::new(0), false, None);
    let pieces = Server::receive(&bytes, Pieces::new(seed), false, None);
    // A connection that ended without an error, as after the client's GOAWAY, reads no more: the rest may be wrong.
    if pieces.error.is_some() || !pieces.connection.is_closed() {
        assert_eq!(whole.events, pieces.events, "other events in pieces");
        assert_eq!(whole.error, pieces.error, "another error in pieces");
    }
    let shut_down_at = (flags & 4 != 0).then_some(bytes.len() / 2);
    let answering = Server::receive(&bytes, Pieces::new(seed), true, shut_down_at);
    for server in [whole, pieces, answering] {
        check_frames(&server.sent);
    }
}

/// Frames from a short form: kind, flags, stream, length, payload.
fn frames(mut input: Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.0.is_empty() {
        let (kind, flags, stream, length) = (input.byte(), input.byte(), input.byte(), input.byte());
        bytes.extend(frame::frame(kind % 12, flags, stream.into(), input.take(length.into())));
    }
    bytes
}

impl Server {
    fn receive(mut bytes: &[u8], mut pieces: Pieces, responds: bool, shut_down_at: Option<usize>) -> Self {
        let now = Instant::now();
        let mut server = Self {
            connection: Connection::new(Limits::default(), Timeouts::default(), now),
            now,
            answers: BTreeMap::new(),
            events: Vec::new(),
            error: None,
            sent: Vec::new(),
            responds,
        };
        let mut shut_down_at = shut_down_at.map(|at| bytes.len() - at);
        while !bytes.is_empty() && server.error.is_none() && !server.connection.is_closed() {
            let room = server.connection.recv_buffer();
            assert!(!room.is_empty(), "no room to receive");
            let (piece, rest) = bytes.split_at(pieces.next().min(room.len()).min(bytes.len()));
            room[..piece.len()].copy_from_slice(piece);
            server.connection.received(piece.len(), now);
            bytes = rest;
            server.act();
            if shut_down_at.take_if(|left| bytes.len() <= *left).is_some() {
                server.connection.shut_down(now);
            }
        }
        server.transmit();
        server
    }

    /// Handles all events, responds, and transmits.
    fn act(&mut self) {
        loop {
            let event = match self.connection.poll_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(code) => {
                    self.error = Some(code);
                    assert!(self.connection.is_closed(), "open after an error");
                    break;
                }
            };
            let record = match event {
                Event::Request { stream, head, is_last } => {
                    Record::Request { stream, head: format!("{head:?}"), is_last }
                }
                Event::Data { stream, bytes } => Record::Data { stream, bytes: bytes.to_vec() },
                Event::EndStream { stream } => Record::EndStream { stream },
                Event::Reset { stream } => Record::Reset { stream },
            };
            self.handle(&record);
            match (self.events.last_mut(), record) {
                (Some(Record::Data { stream, bytes }), Record::Data { stream: same, bytes: more })
                    if *stream == same =>
                {
                    bytes.extend(more);
                }
                (_, record) => self.events.push(record),
            }
        }
        if self.responds {
            self.respond();
        }
        self.transmit();
    }

    fn handle(&mut self, record: &Record) {
        match record {
            Record::Request { stream, head, is_last } => {
                let answer = Answer {
                    is_streamed: head.contains("/streamed"),
                    waits: head.contains("/wait"),
                    is_complete: *is_last,
                    ..Answer::default()
                };
                assert!(self.answers.insert(*stream, answer).is_none(), "a stream that is open is opened");
            }
            Record::Data { stream, bytes } => {
                let Some(answer) = self.answers.get_mut(stream) else { unreachable!("data of a closed stream") };
                assert!(!answer.is_complete && !bytes.is_empty(), "data after the end, or none");
                if answer.waits {
                    return;
                }
                answer.data.push(Bytes::copy_from_slice(bytes));
                self.connection.release_capacity(*stream, bytes.len());
            }
            Record::EndStream { stream } => {
                let Some(answer) = self.answers.get_mut(stream) else { unreachable!("the end of a closed stream") };
                assert!(!std::mem::replace(&mut answer.is_complete, true), "a second end");
            }
            Record::Reset { stream } => {
                assert!(self.answers.remove(stream).is_some(), "a reset of a closed stream");
            }
        }
    }

    /// Sends what the windows allow.
    fn respond(&mut self) {
        let connection = &mut self.connection;
        self.answers.retain(|&stream, answer| {
            if answer.waits || !(answer.is_complete || answer.is_streamed) {
                return true;
            }
            if !std::mem::replace(&mut answer.has_head, true) {
                connection.send_response(stream, StatusCode::OK, &HeaderMap::new(), false);
            }
            while !answer.data.is_empty() {
                match connection.send_data(stream, &mut answer.data, false) {
                    DataSent::Frame => {}
                    DataSent::StreamBlocked | DataSent::Blocked => return true,
                    DataSent::Last | DataSent::Closed => return false,
                }
            }
            if answer.is_complete {
                connection.send_trailers(stream, &HeaderMap::new());
            }
            !answer.is_complete
        });
    }

    fn transmit(&mut self) {
        while self.connection.queued_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = self.connection.transmit_slices(&mut slices);
            let before = self.sent.len();
            slices[..used].iter().for_each(|slice| self.sent.extend_from_slice(slice));
            let bytes = self.sent.len() - before;
            assert!(bytes > 0, "queued bytes that are not sent");
            self.connection.transmitted(bytes, self.now);
        }
    }
}

/// Checks what a server sent: whole frames, SETTINGS first, field blocks that can be decoded, and nothing on a stream
/// that it has ended.
fn check_frames(mut sent: &[u8]) {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut ended = BTreeSet::new();
    let mut is_first = true;
    while let Some((header, rest)) = sent.split_first_chunk::<HEADER_BYTES>() {
        let header = FrameHeader::parse(*header);
        let (payload, rest) =
            rest.split_at_checked(header.length as usize).unwrap_or_else(|| unreachable!("half a frame"));
        sent = rest;
        assert!(!std::mem::take(&mut is_first) || header.kind == kind::SETTINGS, "not SETTINGS first: {header:?}");
        if matches!(header.kind, kind::HEADERS | kind::DATA) {
            assert!(!ended.contains(&header.stream), "a frame on a stream that has ended: {header:?}");
        }
        if header.kind == kind::HEADERS {
            assert!(header.has(flag::END_HEADERS), "a response of these sizes is one frame");
            assert_eq!(decoder.decode(payload, |_, _| {}), Ok(()));
        }
        if header.kind == kind::RST_STREAM || (header.kind <= kind::HEADERS && header.has(flag::END_STREAM)) {
            ended.insert(header.stream);
        }
    }
    assert!(sent.is_empty(), "half a frame");
}
