//! Applies received frames to the state, and returns the events that follow from them (RFC 9113 §5, §6 and §8.1).

use http::{HeaderMap, StatusCode};

use super::{
    Connection, Event, Shutdown, Step,
    closed::ClosedBy,
    parser::Frame,
    stream::{Stream, StreamState},
    timers::RAPID_RESET,
};
use crate::{
    frame::{self, ErrorCode, StreamId, flag, kind},
    message::{FieldSection, HeadError},
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
            self.timers.has_preface();
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
            Frame::Headers { stream, is_last, fields } => return self.on_headers(stream, is_last, fields),
            Frame::Settings(settings) => self.on_settings(&settings)?,
            Frame::SettingsAck => self.on_settings_ack()?,
            Frame::Ignored => self.count_empty_frame()?,
            // RFC 9113 §6.7: a PING without ACK MUST be answered by one with ACK and the same payload.
            Frame::Ping(payload) => {
                self.count_empty_frame()?;
                self.output.control(frame::frame(kind::PING, flag::ACK, 0, &payload));
            }
            // RFC 9113 §6.7: a PING with ACK MUST NOT be answered.
            Frame::PingAck(payload) => self.on_ping_ack(payload)?,
            Frame::GoAway => {
                self.count_empty_frame()?;
                self.on_go_away();
            }
            Frame::RstStream { stream } => return self.on_rst_stream(stream),
            Frame::WindowUpdate { stream, increment } => return self.on_window_update(stream, increment),
        }
        Ok(None)
    }

    /// Counts a frame that carries nothing.
    fn count_empty_frame(&mut self) -> Result<(), ErrorCode> {
        self.empty_frames.take(1, self.timers.now)
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
        let content = length - padding;
        if content == 0 && !is_last {
            self.count_empty_frame()?;
        }
        let event = if self.streams.contains_key(&stream) {
            self.on_data_of_open(stream, length, content, is_last)?
        } else {
            // RFC 9113 §6.1: DATA of a closed stream MUST be answered with a stream error of type STREAM_CLOSED.
            if !self.is_ignored(stream) {
                self.count_empty_frame()?;
                self.output.control(frame::rst_stream(stream, ErrorCode::StreamClosed));
            }
            None
        };
        if padding > 0 {
            self.release_windows(stream, padding);
        }
        Ok(event)
    }

    /// DATA of a stream that is not closed: `length` bytes, of which `content` are no padding.
    fn on_data_of_open(&mut self, stream: StreamId, length: u32, content: u32, is_last: bool) -> Handled {
        let Some(open) = self.streams.get_mut(&stream) else { return Ok(None) };
        // RFC 9113 §5.1 and §6.1: DATA of a half-closed (remote) stream MUST be answered with a stream error of type
        // STREAM_CLOSED.
        if open.state == StreamState::HalfClosedRemote {
            return self.client_error(stream, ErrorCode::StreamClosed);
        }
        if !open.recv_window.receive(length) {
            return Err(ErrorCode::FlowControl);
        }
        open.is_last_frame = is_last;
        // RFC 9113 §8.1.1: malformed requests MUST be treated as a stream error of type PROTOCOL_ERROR.
        if !open.count_content(content, is_last) {
            return self.client_error(stream, ErrorCode::Protocol);
        }
        Ok(None)
    }

    /// Whether frames of a closed stream are ignored: the client may have sent them before it has read a RST_STREAM or
    /// GOAWAY.
    // RFC 9113 §5.4.2 and §6.4: frames MUST be expected after RST_STREAM was sent. RFC 9113 §6.8: those of streams after the
    // last one of a GOAWAY are ignored.
    fn is_ignored(&self, stream: StreamId) -> bool {
        stream > self.last_processed_stream || self.closed.how(stream) == Some(ClosedBy::ServerReset)
    }

    /// A field section: a request, or the trailers of one.
    fn on_headers(&mut self, stream: StreamId, is_last: bool, fields: FieldSection) -> Handled {
        // RFC 9113 §5.1.1: streams of a client MUST have odd numbers; an unexpected one MUST be answered with a
        // connection error of type PROTOCOL_ERROR.
        if stream.is_multiple_of(2) {
            return Err(ErrorCode::Protocol);
        }
        match self.streams.get(&stream) {
            // RFC 9113 §5.1: HEADERS of a half-closed (remote) stream MUST be answered with a stream error of type
            // STREAM_CLOSED.
            Some(Stream { state: StreamState::HalfClosedRemote, .. }) => {
                self.client_error(stream, ErrorCode::StreamClosed)
            }
            // RFC 9113 §8.1: HEADERS without END_STREAM after those of the request MUST be treated as malformed.
            Some(_) if !is_last => self.client_error(stream, ErrorCode::Protocol),
            Some(_) => self.on_trailers(stream, fields),
            None if stream > self.last_stream => self.open(stream, is_last, fields),
            // RFC 9113 §5.1 and §6.8: HEADERS that are ignored MUST be minimally processed: they were decompressed.
            None if self.is_ignored(stream) => self.count_empty_frame().map(|()| None),
            None => self.on_headers_of_closed(stream),
        }
    }

    /// Trailers, whose fields no user of this crate reads: gRPC's clients send none.
    fn on_trailers(&mut self, stream: StreamId, fields: FieldSection) -> Handled {
        let is_complete = self.streams.get_mut(&stream).is_some_and(|open| open.count_content(0, true));
        match fields.finish_trailers() {
            Ok(()) if is_complete => Ok(self.end_stream(stream)),
            // RFC 9113 §8.1.1: malformed requests MUST be treated as a stream error of type PROTOCOL_ERROR.
            _ => self.client_error(stream, ErrorCode::Protocol),
        }
    }

    /// HEADERS of a stream that is closed and was not reset by the server.
    fn on_headers_of_closed(&mut self, stream: StreamId) -> Handled {
        match self.closed.how(stream) {
            // RFC 9113 §5.1: frames after the client's RST_STREAM MUST be answered with a stream error of type
            // STREAM_CLOSED.
            Some(ClosedBy::ClientReset) => {
                self.count_empty_frame()?;
                self.output.control(frame::rst_stream(stream, ErrorCode::StreamClosed));
                Ok(None)
            }
            // RFC 9113 §5.1: frames after END_STREAM MUST be answered with a connection error of type STREAM_CLOSED.
            Some(ClosedBy::End | ClosedBy::ServerReset) => Err(ErrorCode::StreamClosed),
            // RFC 9113 §5.1.1: a new stream MUST be larger than all that were opened, else a connection error of type
            // PROTOCOL_ERROR MUST be sent.
            None => Err(ErrorCode::Protocol),
        }
    }

    /// The client opens a stream.
    fn open(&mut self, stream: StreamId, is_last: bool, fields: FieldSection) -> Handled {
        self.last_stream = stream;
        // RFC 9113 §6.8: frames of streams after the last one of a GOAWAY are ignored, but field blocks MUST be
        // decompressed and DATA MUST count in the connection's window.
        if self.shutdown == Shutdown::Refusing {
            self.count_empty_frame()?;
            return Ok(None);
        }
        self.last_processed_stream = stream;
        // RFC 9113 §5.1.2: HEADERS beyond the advertised limit MUST be treated as a stream error of type PROTOCOL_ERROR
        // or REFUSED_STREAM.
        // RFC 9113 §8.7: REFUSED_STREAM MUST NOT be sent for a stream that the application has seen.
        if self.streams.len() >= self.limits.concurrent_streams as usize {
            self.count_empty_frame()?;
            return Ok(self.reset_stream(stream, ErrorCode::RefusedStream));
        }
        let state = if is_last { StreamState::HalfClosedRemote } else { StreamState::Open };
        let new = |content_length| Stream::new(state, self.peer_stream_window_bytes, content_length, self.timers.now);
        match fields.finish() {
            // RFC 9113 §8.1.1: a request is malformed if its content-length is not that of its body.
            Ok(head) if is_last && head.content_length.is_some_and(|length| length > 0) => {
                self.client_error(stream, ErrorCode::Protocol)
            }
            Ok(head) => {
                self.streams.insert(stream, new(head.content_length));
                Ok(Some(Event::Request { stream, head: head.parts, is_last }))
            }
            // RFC 9113 §8.1.1: malformed requests MUST be treated as a stream error of type PROTOCOL_ERROR.
            Err(HeadError::Malformed) => self.client_error(stream, ErrorCode::Protocol),
            Err(HeadError::TooLarge) => {
                // RFC 9113 §10.5.1: a server can send 431 for a field block larger than it is willing to handle.
                self.streams.insert(stream, new(None));
                self.send_response(stream, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &HeaderMap::new(), true);
                Ok(None)
            }
        }
    }

    /// A stream error that the client has caused.
    fn client_error(&mut self, stream: StreamId, code: ErrorCode) -> Handled {
        self.count_reset(stream)?;
        Ok(self.reset_stream(stream, code))
    }

    /// Counts a stream that ends before it was answered, unless it was open for long: then the limit of concurrent
    /// streams bounds how many there are.
    fn count_reset(&mut self, stream: StreamId) -> Result<(), ErrorCode> {
        let now = self.timers.now;
        let is_rapid = self.streams.get(&stream).is_none_or(|open| now.duration_since(open.opened) < RAPID_RESET);
        if is_rapid { self.rapid_resets.take(1, now) } else { Ok(()) }
    }

    fn on_rst_stream(&mut self, stream: StreamId) -> Handled {
        // RFC 9113 §6.4: RST_STREAM of an idle stream MUST be treated as a PROTOCOL_ERROR.
        self.require_not_idle(stream)?;
        if !self.streams.contains_key(&stream) {
            self.count_empty_frame()?;
            return Ok(None);
        }
        self.count_reset(stream)?;
        // RFC 9113 §6.4: after RST_STREAM no frames MUST be sent for the stream.
        // RFC 9113 §5.4.2: RST_STREAM MUST NOT be answered with RST_STREAM.
        Ok(self.remove(stream, ClosedBy::ClientReset).then_some(Event::Reset { stream }))
    }

    /// END_STREAM was received.
    fn end_stream(&mut self, stream: StreamId) -> Option<Event<'static>> {
        let open = self.streams.get_mut(&stream)?;
        open.state = StreamState::HalfClosedRemote;
        Some(Event::EndStream { stream })
    }

    fn on_window_update(&mut self, stream: StreamId, increment: u32) -> Handled {
        self.count_empty_frame()?;
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
        if increment == 0 {
            // RFC 9113 §6.9: an increment of 0 MUST be treated as a stream error of type PROTOCOL_ERROR.
            return self.client_error(stream, ErrorCode::Protocol);
        }
        if !open.send_window.change(increment.into()) {
            // RFC 9113 §6.9.1: a window that exceeds 2^31-1 MUST end the stream with a FLOW_CONTROL_ERROR.
            return self.client_error(stream, ErrorCode::FlowControl);
        }
        if open.unblock() {
            self.unblocked.push(stream);
        }
        Ok(None)
    }
}
