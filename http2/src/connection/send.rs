//! What the server sends: responses, resets and returned capacity.

use http::{HeaderMap, StatusCode};

use super::{
    Connection, Event,
    closed::ClosedBy,
    limits::{FRAMES_PER_SENT, MAX_QUEUED_BYTES},
    output::{DataSent, SendBuffer},
    stream::StreamState,
};
use crate::{
    frame::{self, ErrorCode, StreamId},
    message,
};

impl Connection {
    /// Queues the head of a response. `is_last` closes the stream.
    pub fn send_response(&mut self, stream: StreamId, status: StatusCode, headers: &HeaderMap, is_last: bool) {
        self.send_fields(stream, is_last, message::response_fields(&status, headers));
    }

    /// Queues the trailers of a response, and closes the stream.
    pub fn send_trailers(&mut self, stream: StreamId, trailers: &HeaderMap) {
        self.send_fields(stream, true, message::fields(trailers));
    }

    // RFC 9113 §5.1: nothing but PRIORITY MUST be sent on a closed stream.
    fn send_fields<'a>(
        &mut self,
        stream: StreamId,
        is_last: bool,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        if self.streams.contains_key(&stream) {
            self.output.fields(stream, is_last, fields);
            self.empty_frames.give(FRAMES_PER_SENT);
            if is_last {
                self.finish(stream);
            }
        }
    }

    /// Whether the connection's window and the queue have room for data.
    pub fn takes_data(&self) -> bool {
        self.send_window.available() > 0 && self.output.bytes() < MAX_QUEUED_BYTES
    }

    /// Queues one DATA frame with as much of `data` as the windows, the client's frame size and the queue allow. When
    /// that is all of it and `is_last` is set, the frame has END_STREAM and closes the stream.
    pub fn send_data(&mut self, stream: StreamId, data: &mut SendBuffer, is_last: bool) -> DataSent {
        let takes_data = self.takes_data();
        let Some(open) = self.streams.get_mut(&stream) else { return DataSent::Closed };
        // RFC 9113 §6.9.1: a DATA frame MUST NOT exceed the window of the stream or of the connection; one without
        // data and with END_STREAM may always be sent.
        // RFC 9113 §4.2: a payload MUST NOT exceed the client's SETTINGS_MAX_FRAME_SIZE.
        if !data.is_empty() {
            if open.send_window.available() == 0 {
                open.is_blocked = true;
                return DataSent::StreamBlocked;
            }
            if !takes_data {
                return DataSent::Blocked;
            }
        }
        let allowed =
            open.send_window.available().min(self.send_window.available()).min(self.output.max_frame_bytes as usize);
        let length = data.len().min(allowed);
        let is_last = is_last && length == data.len();
        open.send_window.consume(length);
        self.send_window.consume(length);
        self.output.data(stream, length, is_last, data);
        self.empty_frames.give(FRAMES_PER_SENT);
        if is_last {
            self.finish(stream);
            return DataSent::Last;
        }
        DataSent::Frame
    }

    /// Closes a stream with an error. Does nothing if it is closed.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if self.streams.contains_key(&stream) {
            self.reset_stream(stream, code);
        }
    }

    /// A response is complete.
    // RFC 9113 §8.1: a server whose response does not depend on the rest of the request MAY send RST_STREAM with
    // NO_ERROR after it.
    fn finish(&mut self, stream: StreamId) {
        let state = self.streams.get(&stream).map(|open| open.state);
        if state == Some(StreamState::Open) {
            self.reset_stream(stream, ErrorCode::NoError);
        } else {
            self.remove(stream, ClosedBy::End);
        }
    }

    /// A stream error; the event if the application knew the stream.
    // RFC 9113 §5.4.2: an endpoint that detects a stream error sends RST_STREAM with its code. RFC 9113 §6.4: it MUST NOT
    // be sent for an idle stream: `last_stream` was raised to the stream before.
    pub(super) fn reset_stream(&mut self, stream: StreamId, code: ErrorCode) -> Option<Event<'static>> {
        self.output.control(frame::rst_stream(stream, code));
        self.remove(stream, ClosedBy::ServerReset).then_some(Event::Reset { stream })
    }

    /// Removes a stream, and releases what the application has of it; false if it was closed before.
    pub(super) fn remove(&mut self, stream: StreamId, by: ClosedBy) -> bool {
        self.closed.add(stream, by);
        let removed = self.streams.remove(&stream);
        if let Some(stream) = &removed {
            self.release_connection(stream.unreleased);
        }
        self.end_if_client_left();
        removed.is_some()
    }

    /// Returns capacity to the windows of a stream and of the connection.
    pub(super) fn release_windows(&mut self, stream: StreamId, bytes: u32) {
        // The client needs no more window for a stream on which it sends nothing more.
        if let Some(open) = self.streams.get_mut(&stream)
            && open.state == StreamState::Open
            && !open.is_last_frame
            && let Some(increment) = open.recv_window.release(bytes)
        {
            self.output.control(frame::window_update(stream, increment));
        }
        self.release_connection(bytes);
    }

    /// Returns capacity to the window of the connection.
    pub(super) fn release_connection(&mut self, bytes: u32) {
        if let Some(increment) = self.recv_window.release(bytes) {
            self.output.control(frame::window_update(0, increment));
        }
    }
}
