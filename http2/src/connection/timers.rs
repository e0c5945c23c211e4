//! What a client must do within a time, with instants as arguments.

use std::time::{Duration, Instant};

/// A stream that ends sooner after it was opened counts against [`Limits::rapid_resets`](super::Limits::rapid_resets).
pub const RAPID_RESET: Duration = Duration::from_millis(100);

/// How long a connection waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the client's preface to its acknowledgement of the server's SETTINGS. Then the connection ends with
    /// SETTINGS_TIMEOUT (RFC 9113 §6.5.3).
    pub settings_ack: Duration,
    /// Silence in both directions, while a stream is open and nothing waits to be written, after which a PING asks
    /// whether the client is still there.
    pub ping_interval: Duration,
    /// Whether a connection without an open stream gets that PING, too.
    pub ping_idle: bool,
    /// From that PING to anything that the client sends. Then the connection ends.
    pub ping_answer: Duration,
    /// From the first GOAWAY of a graceful end to the last one, unless the client acknowledges the PING between them
    /// sooner (RFC 9113 §6.8). Streams that are open then are still served.
    pub goodbye: Duration,
    /// After a graceful end, the time in which the socket must take at least one of the bytes that are left.
    pub drain: Duration,
    /// For writing the GOAWAY of a connection error, and for closing the socket.
    pub close: Duration,
}

impl Default for Timeouts {
    /// A client at 64 kbit/s whose socket has buffered 450 KiB answers a PING in time.
    fn default() -> Self {
        Self {
            settings_ack: Duration::from_secs(30),
            ping_interval: Duration::from_secs(60),
            ping_idle: false,
            ping_answer: Duration::from_secs(60),
            goodbye: Duration::from_secs(2),
            drain: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

/// The client's acknowledgement of the server's SETTINGS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingsAck {
    /// The client's preface has not come.
    NotDue,
    /// The preface came then.
    Due(Instant),
    /// It has come.
    Received,
}

/// When the connection last did what, and until when the client must do what. `None` is never, also where a time is too
/// long for an instant.
pub(super) struct Timers {
    pub(super) timeouts: Timeouts,
    /// The time of the last call that told it.
    pub(super) now: Instant,
    /// When bytes were last received or transmitted.
    active: Instant,
    pub(super) settings_ack: SettingsAck,
    /// When the unanswered PING of a silent connection was sent.
    pub(super) ping: Option<Instant>,
    /// When the last GOAWAY of a graceful end must be sent.
    pub(super) goodbye: Option<Instant>,
    /// When the connection failed.
    pub(super) failed: Option<Instant>,
}

impl Timers {
    pub(super) fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self { timeouts, now, active: now, settings_ack: SettingsAck::NotDue, ping: None, goodbye: None, failed: None }
    }

    /// Bytes were received.
    pub(super) fn received(&mut self, now: Instant) {
        self.transmitted(now);
        self.ping = None;
    }

    /// Bytes were transmitted.
    pub(super) fn transmitted(&mut self, now: Instant) {
        self.now = now;
        self.active = now;
    }

    /// The client's preface has come.
    pub(super) fn has_preface(&mut self) {
        if self.settings_ack == SettingsAck::NotDue {
            self.settings_ack = SettingsAck::Due(self.now);
        }
    }

    /// When the SETTINGS must have been acknowledged.
    pub(super) fn settings_due(&self) -> Option<Instant> {
        match self.settings_ack {
            SettingsAck::Due(since) => since.checked_add(self.timeouts.settings_ack),
            SettingsAck::NotDue | SettingsAck::Received => None,
        }
    }

    /// When a PING must have been answered.
    pub(super) fn ping_due(&self) -> Option<Instant> {
        self.ping?.checked_add(self.timeouts.ping_answer)
    }

    /// When a silent connection gets a PING.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        self.active.checked_add(self.timeouts.ping_interval)
    }

    /// When a connection that has ended is given up. `is_drained` is whether nothing waits to be written.
    pub(super) fn give_up_at(&self, is_drained: bool) -> Option<Instant> {
        match self.failed {
            Some(failed) => failed.checked_add(self.timeouts.close),
            None if is_drained => self.active.checked_add(self.timeouts.close),
            // The rest of a response, which a slow client still reads.
            None => self.active.checked_add(self.timeouts.drain),
        }
    }

    /// When the last GOAWAY of a graceful end must be sent, if the first one is sent now.
    pub(super) fn goodbye_at(&self) -> Option<Instant> {
        self.now.checked_add(self.timeouts.goodbye)
    }
}
