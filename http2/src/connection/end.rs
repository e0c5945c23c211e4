//! Timeouts, and the end of a connection (RFC 9113 §5.4.1, §6.5.3 and §6.8).

use std::time::Instant;

use super::{Connection, LARGEST_STREAM, SHUTDOWN_PING, SILENCE_PING, Shutdown, timers::SettingsAck};
use crate::frame::{self, ErrorCode, kind};

impl Connection {
    /// When [`Self::handle_timeout`] must be called, unless something happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.is_closed() {
            return self.timers.give_up_at(self.queued_bytes() == 0).filter(|_| !self.is_given_up);
        }
        let silent = self.timers.silent_at().filter(|_| self.awaits_silence());
        [self.timers.settings_due(), self.timers.ping_due(), self.timers.goodbye, silent].into_iter().flatten().min()
    }

    /// Whether a PING is sent when the connection is silent for long enough.
    fn awaits_silence(&self) -> bool {
        let asks = !self.streams.is_empty() || (self.timers.timeouts.ping_idle && self.parser.has_preface());
        asks && self.queued_bytes() == 0 && self.timers.ping.is_none()
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// A connection error, as from [`Self::poll_event`]: NO_ERROR if the client has not answered a PING.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ErrorCode> {
        self.timers.now = now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.is_closed() {
            self.is_given_up |= is_due(self.next_timeout());
            return Ok(());
        }
        // RFC 9113 §6.5.3: without an acknowledgement within a reasonable time the sender MAY issue a connection error of
        // type SETTINGS_TIMEOUT.
        if is_due(self.timers.settings_due()) {
            self.fail(ErrorCode::SettingsTimeout);
            return Err(ErrorCode::SettingsTimeout);
        }
        // The standard has no code for a client that is gone.
        if is_due(self.timers.ping_due()) {
            self.fail(ErrorCode::NoError);
            return Err(ErrorCode::NoError);
        }
        if is_due(self.timers.goodbye) {
            self.refuse_streams();
        }
        if self.awaits_silence() && is_due(self.timers.silent_at()) {
            self.timers.ping = Some(now);
            self.output.control(frame::frame(kind::PING, 0, 0, &SILENCE_PING));
        }
        Ok(())
    }

    /// Begins to end the connection gracefully: streams that the client opens before it knows are still served.
    // RFC 9113 §6.8: a server that shuts down gracefully SHOULD send a GOAWAY with the largest stream, and after at
    // least one round trip another one with the last stream that it serves. The PING measures the round trip.
    pub fn shut_down(&mut self, now: Instant) {
        self.timers.now = now;
        if self.shutdown != Shutdown::No {
            return;
        }
        if !self.parser.has_preface() {
            self.shutdown = Shutdown::Refusing;
            return;
        }
        self.shutdown = Shutdown::Announced;
        self.timers.goodbye = self.timers.goodbye_at();
        self.output.control(frame::go_away(LARGEST_STREAM, ErrorCode::NoError));
        self.output.control(frame::frame(kind::PING, 0, 0, &SHUTDOWN_PING));
    }

    /// Serves no stream from now on but those that are open.
    fn refuse_streams(&mut self) {
        self.timers.goodbye = None;
        self.shutdown = Shutdown::Refusing;
        self.output.control(frame::go_away(self.last_processed_stream, ErrorCode::NoError));
    }

    /// The client has answered a PING.
    pub(super) fn on_ping_ack(&mut self, payload: [u8; 8]) -> Result<(), ErrorCode> {
        match payload {
            SHUTDOWN_PING if self.shutdown == Shutdown::Announced => self.refuse_streams(),
            // One that comes late, or of no PING.
            _ => self.empty_frames.take(1, self.timers.now)?,
        }
        Ok(())
    }

    /// The client has sent GOAWAY: it accepts no streams of the server, which opens none. Its own are still answered
    /// (RFC 9113 §6.8), also those that it opens until all are.
    pub(super) fn on_go_away(&mut self) {
        self.has_client_left = true;
        self.end_if_client_left();
    }

    /// Ends the connection when the client wants to and its last request is answered.
    pub(super) fn end_if_client_left(&mut self) {
        if self.has_client_left && self.streams.is_empty() && self.shutdown != Shutdown::Refusing {
            self.refuse_streams();
        }
    }

    /// The client has acknowledged the server's SETTINGS.
    pub(super) fn on_settings_ack(&mut self) -> Result<(), ErrorCode> {
        match self.timers.settings_ack {
            SettingsAck::Received => self.empty_frames.take(1, self.timers.now),
            SettingsAck::Due(_) | SettingsAck::NotDue => {
                self.timers.settings_ack = SettingsAck::Received;
                Ok(())
            }
        }
    }

    /// Whether the caller must end the connection when all queued bytes are transmitted.
    // RFC 9113 §5.4.1: after a GOAWAY for a connection error, the TCP connection MUST be closed.
    pub fn is_closed(&self) -> bool {
        self.error.is_some() || (self.shutdown == Shutdown::Refusing && self.streams.is_empty())
    }

    /// Whether the caller must end the connection at once: it is closed, and the client does not read what is queued.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }
}
