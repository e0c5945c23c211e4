//! The state machine of a server's connection (RFC 9113): streams, windows, settings and GOAWAY, without I/O.
//!
//! The caller moves bytes and decides when. It repeats:
//!
//! 1. receive: fill [`Connection::recv_buffer`], and report it with [`Connection::received`]; where
//!    [`Connection::unbuffered_data`] says that only data of one stream comes next, the caller may read it to any other
//!    place instead, and report it with [`Connection::data_received`];
//! 2. act on each event of [`Connection::poll_event`], and return the bytes it has used to the flow-control windows
//!    with [`Connection::release_capacity`];
//! 3. respond: [`Connection::send_response`], then [`Connection::send_data`] and [`Connection::send_trailers`];
//!    [`Connection::poll_unblocked`] says which streams can send on;
//! 4. transmit: write [`Connection::transmit_slices`], and report it with [`Connection::transmitted`].
//!
//! There is no clock and no waker in here: a step that needs the time gets it as an argument, and the caller calls
//! [`Connection::handle_timeout`] at [`Connection::next_timeout`].
//!
//! The files: `buffer`, `parser` and `payload` (bytes to frames, with `rules`), `receive` and `settings` (frames to
//! events), `send` (responses to frames), `output` (frames to bytes), `end` (timeouts and the end of a connection).
//! `stream`, `closed` and `flow` are the state of streams and windows; `limits`, `calm` and `timers` bound what a client
//! may do.

mod buffer;
mod calm;
mod closed;
mod end;
mod flow;
pub(crate) mod limits;
mod output;
mod parser;
mod payload;
mod receive;
mod rules;
mod send;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod timers;

use std::{collections::HashMap, io::IoSlice, time::Instant};

use http::request;

use self::{
    calm::Allowed,
    closed::ClosedStreams,
    flow::{RecvWindow, SendWindow},
    limits::{CONNECTION_WINDOW_BYTES, MAX_CONTROL_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES},
    output::SendQueue,
    parser::FrameParser,
    stream::Stream,
    timers::Timers,
};
pub use self::{
    limits::{Allowance, FRAMES_PER_SENT, Limits},
    output::{DataSent, SendBuffer},
    timers::{RAPID_RESET, Timeouts},
};
use crate::frame::{self, DEFAULT_WINDOW_BYTES, ErrorCode, StreamId, setting};

/// The last stream of a GOAWAY that refuses no stream yet (RFC 9113 §6.8).
const LARGEST_STREAM: StreamId = frame::MAX_WINDOW_BYTES;
/// Payload of the PING that follows such a GOAWAY. Its acknowledgement shows that the client has read the GOAWAY.
const SHUTDOWN_PING: [u8; 8] = *b"shutdown";
/// Payload of the PING to a client that is silent.
const SILENCE_PING: [u8; 8] = *b"silence?";

/// What a client did.
// A head is moved twice on its way to the handler; a box would cost an allocation for each request.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Event<'a> {
    /// A stream was opened with a request.
    Request {
        /// The new stream.
        stream: StreamId,
        /// The request without its body.
        head: request::Parts,
        /// Whether the request has no body: no event of the stream follows but [`Event::Reset`].
        is_last: bool,
    },
    /// Some of a request's body. [`Connection::release_capacity`] lets the client send more.
    Data {
        /// Its stream.
        stream: StreamId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// A request is complete.
    EndStream {
        /// Its stream.
        stream: StreamId,
    },
    /// A stream was closed by the client or by a stream error. It needs no response, and has no further events.
    Reset {
        /// The closed stream.
        stream: StreamId,
    },
}

/// How far the graceful end of a connection is (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    /// It was not begun.
    No,
    /// The first GOAWAY and a PING were sent; the client may have opened streams before it reads them.
    Announced,
    /// New streams are ignored.
    Refusing,
}

/// A server's connection.
pub struct Connection {
    parser: FrameParser,
    limits: Limits,
    output: SendQueue,
    /// The streams that are open or half-closed (remote).
    streams: HashMap<StreamId, Stream>,
    closed: ClosedStreams,
    /// Streams whose send window was exhausted and is not any more.
    unblocked: Vec<StreamId>,
    /// The largest stream that the client has opened.
    last_stream: StreamId,
    /// The largest stream that was not ignored after a GOAWAY.
    last_processed_stream: StreamId,
    recv_window: RecvWindow,
    send_window: SendWindow,
    /// The client's SETTINGS_INITIAL_WINDOW_SIZE.
    peer_stream_window_bytes: u32,
    empty_frames: Allowed,
    rapid_resets: Allowed,
    timers: Timers,
    shutdown: Shutdown,
    /// Whether the client has sent GOAWAY: the connection ends with its last request.
    has_client_left: bool,
    error: Option<ErrorCode>,
    is_given_up: bool,
}

impl Connection {
    /// A connection on which nothing was received. The server's preface is queued.
    pub fn new(limits: Limits, timeouts: Timeouts, now: Instant) -> Self {
        let mut output = SendQueue::new();
        // RFC 9113 §3.4: the server's preface, a SETTINGS frame, MUST be the first frame that it sends.
        output.control(frame::settings(&[
            (setting::MAX_CONCURRENT_STREAMS, limits.concurrent_streams),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (setting::MAX_FRAME_SIZE, MAX_FRAME_BYTES),
            (setting::MAX_HEADER_LIST_SIZE, limits.header_list_bytes),
        ]));
        // RFC 9113 §6.9.2: the connection's window can only be changed with WINDOW_UPDATE.
        output.control(frame::window_update(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
        Self {
            parser: FrameParser::new(limits),
            limits,
            output,
            streams: HashMap::new(),
            closed: ClosedStreams::new(limits.concurrent_streams as usize),
            unblocked: Vec::new(),
            last_stream: 0,
            last_processed_stream: 0,
            recv_window: RecvWindow::new(CONNECTION_WINDOW_BYTES),
            send_window: SendWindow::new(DEFAULT_WINDOW_BYTES),
            peer_stream_window_bytes: DEFAULT_WINDOW_BYTES,
            empty_frames: Allowed::new(limits.empty_frames, now),
            rapid_resets: Allowed::new(limits.rapid_resets, now),
            timers: Timers::new(timeouts, now),
            shutdown: Shutdown::No,
            has_client_left: false,
            error: None,
            is_given_up: false,
        }
    }

    /// Whether more may be received. False while the client does not read the control frames that its own frames
    /// cause, so that they cannot pile up.
    pub fn accepts_input(&self) -> bool {
        self.output.control_bytes() <= MAX_CONTROL_BYTES
    }

    /// Where the next received bytes go. Not empty, provided that all events were polled.
    pub fn recv_buffer(&mut self) -> &mut [u8] {
        self.parser.buffer.room()
    }

    /// The first `bytes` of [`Self::recv_buffer`] were received.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        self.timers.received(now);
        self.parser.buffer.received(bytes);
    }

    /// Stream and length of the data that comes next, when nothing else is in the buffer. Up to that many bytes may be
    /// read to another place than [`Self::recv_buffer`].
    pub fn unbuffered_data(&self) -> Option<(StreamId, usize)> {
        self.parser.unbuffered_data()
    }

    /// `bytes` of [`Self::unbuffered_data`] were received to another place, and used: their capacity is released.
    pub fn data_received(&mut self, bytes: usize, now: Instant) {
        self.timers.received(now);
        if let Some((stream, left)) = self.parser.unbuffered_data() {
            let bytes = bytes.min(left);
            self.parser.data_taken(bytes);
            self.release_windows(stream, bytes as u32);
        }
    }

    /// The next event in what was received; `None` until more is received.
    ///
    /// # Errors
    /// A connection error. All streams are closed and a GOAWAY is queued; the caller transmits it and ends the
    /// connection. From then on every call returns the same error.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, ErrorCode> {
        let step = match self.advance() {
            Ok(step) => step,
            Err(code) => {
                self.fail(code);
                return Err(code);
            }
        };
        Ok(step.map(|step| match step {
            Step::Event(event) => event,
            Step::Data { stream, length } => Event::Data { stream, bytes: self.parser.take_chunk(length) },
        }))
    }

    /// `bytes` of a stream's data were used: the client may send more.
    pub fn release_capacity(&mut self, stream: StreamId, bytes: usize) {
        // What a closed stream had was released when it was closed.
        if let Some(open) = self.streams.get_mut(&stream) {
            let bytes = open.unreleased.min(u32::try_from(bytes).unwrap_or(u32::MAX));
            open.unreleased -= bytes;
            self.release_windows(stream, bytes);
        }
    }

    /// Queued bytes that were not transmitted.
    pub fn queued_bytes(&self) -> usize {
        self.output.bytes()
    }

    /// Fills `slices` with the bytes to transmit next; returns how many slices it filled.
    pub fn transmit_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// The first `bytes` of the queue were transmitted.
    pub fn transmitted(&mut self, bytes: usize, now: Instant) {
        self.timers.transmitted(now);
        self.output.sent(bytes);
    }

    /// A stream for which [`Self::send_data`] returned [`DataSent::StreamBlocked`], and whose window is open again.
    pub fn poll_unblocked(&mut self) -> Option<StreamId> {
        self.unblocked.pop()
    }

    /// Ends all streams with a connection error.
    // RFC 9113 §5.4.1: GOAWAY SHOULD be sent first, with the last stream that was received. RFC 9113 §6.8: the last stream
    // MUST NOT be larger than that of an earlier GOAWAY.
    fn fail(&mut self, code: ErrorCode) {
        if self.error.is_none() {
            self.output.control(frame::go_away(self.last_processed_stream, code));
            self.error = Some(code);
            self.timers.failed = Some(self.timers.now);
            self.streams.clear();
        }
    }
}

/// An [`Event`] whose data is still in the buffer.
#[allow(clippy::large_enum_variant)] // As for `Event`.
enum Step {
    Event(Event<'static>),
    Data { stream: StreamId, length: usize },
}
