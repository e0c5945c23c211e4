//! Applies received frames to the state, and returns the events that follow from them (RFC 9113 §5, §6 and §8.1).

use http::{HeaderMap, StatusCode};

use super::{
    Connection, Event, SHUTDOWN_PING, Shutdown, Step,
    parser::Frame,
    stream::{Stream, StreamState},
};
use crate::{
    frame::{self, DEFAULT_MAX_FRAME_BYTES, ErrorCode, MAX_WINDOW_BYTES, StreamId, flag, kind, setting},
    message::{HeadError, RequestBuilder},
};

/// An event if one follows from a frame, or a connection error.
type Handled = Result<Option<Event<'static>>, ErrorCode>;

impl Connection {
    /// Handles frames until an event follows from one, or the rest must be received.
    pub(super) fn advance(&mut self) -> Result<Option<Step>, ErrorCode> {
        if let Some(code) = self.error {
            return Err(code);
        }
        while let Some(frame) = self.parser.next()? {
            if let Frame::DataChunk { stream, length } = frame {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.unreleased += length as u32;
                    return Ok(Some(Step::Data { stream, length }));
                }
                // RFC 9113 §5.1: DATA of a closed stream MUST be discarded, and counts in the connection's window.
                self.parser.take_chunk(length);
                self.release_connection(length as u32);
            } else if let Some(event) = self.handle(frame)? {
                return Ok(Some(Step::Event(event)));
            }
        }
        Ok(None)
    }

    fn handle(&mut self, frame: Frame) -> Handled {
        match frame {
            Frame::Data { stream, length, padding, is_last } => return self.on_data(stream, length, padding, is_last),
            Frame::DataChunk { .. } => {}
            Frame::EndStream { stream } => return Ok(self.end_stream(stream)),
            Frame::Headers { stream, is_last, head } => return self.on_headers(stream, is_last, head),
            Frame::Settings(settings) => self.on_settings(&settings)?,
            // RFC 9113 §6.7: a PING without ACK MUST be answered by one with ACK and the same payload.
            Frame::Ping(payload) => self.output.control(frame::frame(kind::PING, flag::ACK, 0, &payload)),
            // RFC 9113 §6.7: a PING with ACK MUST NOT be answered.
            Frame::PingAck(payload) => self.on_ping_ack(payload),
            Frame::GoAway => self.shutdown = Shutdown::Refusing,
            Frame::RstStream { stream } => {
                // RFC 9113 §6.4: RST_STREAM of an idle stream MUST be treated as a PROTOCOL_ERROR.
                self.require_not_idle(stream)?;
                // RFC 9113 §6.4: after RST_STREAM no frames MUST be sent for the stream.
                // RFC 9113 §5.4.2: RST_STREAM MUST NOT be answered with RST_STREAM.
                return Ok(self.remove(stream).then_some(Event::Reset { stream }));
            }
            Frame::WindowUpdate { stream, increment } => return self.on_window_update(stream, increment),
        }
        Ok(None)
    }

    /// Checks that the client has opened this stream once.
    // RFC 9113 §5.1: frames other than HEADERS and PRIORITY on an idle stream MUST be treated as a PROTOCOL_ERROR.
    // Streams of even numbers are the server's, which opens none.
    fn require_not_idle(&self, stream: StreamId) -> Result<(), ErrorCode> {
        if stream > self.last_stream || stream.is_multiple_of(2) { Err(ErrorCode::Protocol) } else { Ok(()) }
    }

    /// The header of a DATA frame.
    fn on_data(&mut self, stream: StreamId, length: u32, padding: u32, is_last: bool) -> Handled {
        self.require_not_idle(stream)?;
        // RFC 9113 §6.9: DATA MUST count in the connection's window, even if the frame is in error.
        // RFC 9113 §6.1: all of the payload counts, with Pad Length and Padding.
        // RFC 9113 §6.9.1: more than the window allows is a FLOW_CONTROL_ERROR, of the stream or the connection.
        if !self.recv_window.receive(length) {
            return Err(ErrorCode::FlowControl);
        }
        let mut event = None;
        match self.streams.get_mut(&stream) {
            // RFC 9113 §5.1 and §6.1: DATA of a half-closed (remote) stream MUST be answered with a stream error of
            // type STREAM_CLOSED.
            Some(Stream { state: StreamState::HalfClosedRemote, .. }) => {
                event = self.reset_stream(stream, ErrorCode::StreamClosed);
            }
            Some(open) => {
                if !open.recv_window.receive(length) {
                    return Err(ErrorCode::FlowControl);
                }
                open.is_last_frame = is_last;
            }
            // RFC 9113 §5.4.2 and §6.4: frames MUST be expected after RST_STREAM was sent. RFC 9113 §5.1 allows to
            // ignore them on all closed streams.
            None => {}
        }
        if padding > 0 {
            self.release_windows(stream, padding);
        }
        Ok(event)
    }

    /// A field section: a request, or the trailers of one.
    fn on_headers(&mut self, stream: StreamId, is_last: bool, head: RequestBuilder) -> Handled {
        // RFC 9113 §5.1.1: streams of a client MUST have odd numbers; an unexpected one MUST be answered with a
        // connection error of type PROTOCOL_ERROR.
        if stream.is_multiple_of(2) {
            return Err(ErrorCode::Protocol);
        }
        Ok(match self.streams.get(&stream) {
            // RFC 9113 §5.1: HEADERS of a half-closed (remote) stream MUST be answered with a stream error of type
            // STREAM_CLOSED.
            Some(Stream { state: StreamState::HalfClosedRemote, .. }) => {
                self.reset_stream(stream, ErrorCode::StreamClosed)
            }
            // Trailers, of which no user of this crate reads any: gRPC's clients send none.
            Some(_) if is_last => self.end_stream(stream),
            // RFC 9113 §8.1: HEADERS without END_STREAM after those of the request MUST be treated as malformed.
            Some(_) => self.reset_stream(stream, ErrorCode::Protocol),
            // RFC 9113 §5.1: HEADERS of a closed stream MUST be minimally processed: they were decompressed.
            None if stream <= self.last_stream => None,
            None => self.open(stream, is_last, head),
        })
    }

    /// The client opens a stream.
    fn open(&mut self, stream: StreamId, is_last: bool, head: RequestBuilder) -> Option<Event<'static>> {
        self.last_stream = stream;
        // RFC 9113 §6.8: frames of streams after the last one of a GOAWAY are ignored, but field blocks MUST be
        // decompressed and DATA MUST count in the connection's window.
        if self.shutdown == Shutdown::Refusing {
            return None;
        }
        self.last_processed_stream = stream;
        // RFC 9113 §5.1.2: HEADERS beyond the advertised limit MUST be treated as a stream error of type PROTOCOL_ERROR
        // or REFUSED_STREAM.
        // RFC 9113 §8.7: REFUSED_STREAM MUST NOT be sent for a stream that the application has seen.
        if self.streams.len() >= self.limits.concurrent_streams as usize {
            return self.reset_stream(stream, ErrorCode::RefusedStream);
        }
        let state = if is_last { StreamState::HalfClosedRemote } else { StreamState::Open };
        let new = Stream::new(state, self.peer_stream_window_bytes);
        match head.finish() {
            Ok(head) => {
                self.streams.insert(stream, new);
                Some(Event::Request { stream, head, is_last })
            }
            // RFC 9113 §8.1.1: malformed requests MUST be treated as a stream error of type PROTOCOL_ERROR.
            Err(HeadError::Malformed) => self.reset_stream(stream, ErrorCode::Protocol),
            Err(HeadError::TooLarge) => {
                // RFC 9113 §10.5.1: a server can send 431 for a field block larger than it is willing to handle.
                self.streams.insert(stream, new);
                self.send_response(stream, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &HeaderMap::new(), true);
                None
            }
        }
    }

    /// END_STREAM was received.
    fn end_stream(&mut self, stream: StreamId) -> Option<Event<'static>> {
        let open = self.streams.get_mut(&stream)?;
        open.state = StreamState::HalfClosedRemote;
        Some(Event::EndStream { stream })
    }

    // RFC 9113 §6.5.3: values MUST be applied as soon as possible and in their order, with nothing processed between
    // them; then an acknowledgement MUST be sent immediately. RFC 9113 §3.4: those of the client's preface too, after
    // the server's preface, which is queued before anything is received.
    // RFC 9113 §5.5, §6.5.2 and §6.5.3: unknown settings MUST be ignored.
    fn on_settings(&mut self, settings: &[(u16, u32)]) -> Result<(), ErrorCode> {
        for &(name, value) in settings {
            match name {
                // RFC 9113 §4.3.1: the encoder announces a smaller table in the next field block.
                setting::HEADER_TABLE_SIZE => self.output.set_max_table_bytes(value as usize),
                // RFC 9113 §6.5.2: values other than 0 and 1 MUST be treated as a PROTOCOL_ERROR.
                setting::ENABLE_PUSH if value > 1 => return Err(ErrorCode::Protocol),
                setting::INITIAL_WINDOW_SIZE => self.on_initial_window_size(value)?,
                setting::MAX_FRAME_SIZE => {
                    // RFC 9113 §6.5.2: values outside of 2^14 to 2^24-1 MUST be treated as a PROTOCOL_ERROR.
                    if !(DEFAULT_MAX_FRAME_BYTES..1 << 24).contains(&value) {
                        return Err(ErrorCode::Protocol);
                    }
                    self.output.max_frame_bytes = value;
                }
                // MAX_CONCURRENT_STREAMS limits pushes, of which there are none; MAX_HEADER_LIST_SIZE is advisory.
                _ => {}
            }
        }
        self.output.control(frame::frame(kind::SETTINGS, flag::ACK, 0, &[]));
        Ok(())
    }

    fn on_initial_window_size(&mut self, value: u32) -> Result<(), ErrorCode> {
        // RFC 9113 §6.5.2: values above 2^31-1 MUST be treated as a FLOW_CONTROL_ERROR.
        if value > MAX_WINDOW_BYTES {
            return Err(ErrorCode::FlowControl);
        }
        let by = i64::from(value) - i64::from(self.peer_stream_window_bytes);
        self.peer_stream_window_bytes = value;
        // RFC 9113 §6.9.2: all stream windows MUST be changed by the difference; one that exceeds the largest window
        // MUST be treated as a connection error of type FLOW_CONTROL_ERROR. The connection's window stays.
        if self.streams.values_mut().all(|stream| stream.send_window.change(by)) {
            Ok(())
        } else {
            Err(ErrorCode::FlowControl)
        }
    }

    fn on_ping_ack(&mut self, payload: [u8; 8]) {
        if self.shutdown == Shutdown::Announced && payload == SHUTDOWN_PING {
            self.shutdown = Shutdown::Refusing;
            self.output.control(frame::go_away(self.last_processed_stream, ErrorCode::NoError));
        }
    }

    fn on_window_update(&mut self, stream: StreamId, increment: u32) -> Handled {
        if stream == 0 {
            // RFC 9113 §6.9: an increment of 0 MUST be treated as a PROTOCOL_ERROR, here of the connection.
            if increment == 0 {
                return Err(ErrorCode::Protocol);
            }
            // RFC 9113 §6.9.1: a window that exceeds 2^31-1 MUST end the connection with a FLOW_CONTROL_ERROR.
            return if self.send_window.change(increment.into()) { Ok(None) } else { Err(ErrorCode::FlowControl) };
        }
        self.require_not_idle(stream)?;
        // RFC 9113 §6.9: WINDOW_UPDATE of a closed stream MUST NOT be treated as an error.
        let Some(open) = self.streams.get_mut(&stream) else { return Ok(None) };
        let code = if increment == 0 {
            // RFC 9113 §6.9: an increment of 0 MUST be treated as a stream error of type PROTOCOL_ERROR.
            ErrorCode::Protocol
        } else if !open.send_window.change(increment.into()) {
            // RFC 9113 §6.9.1: a window that exceeds 2^31-1 MUST end the stream with a FLOW_CONTROL_ERROR.
            ErrorCode::FlowControl
        } else {
            return Ok(None);
        };
        Ok(self.reset_stream(stream, code))
    }
}
