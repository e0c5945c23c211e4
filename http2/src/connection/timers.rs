//! What a client must do within a time, with instants as arguments.

use std::time::Duration;

/// A stream that ends sooner after it was opened counts against [`Limits::rapid_resets`](super::Limits::rapid_resets).
pub const RAPID_RESET: Duration = Duration::from_millis(100);

/// How long a connection waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the client's preface to its acknowledgement of the server's SETTINGS. Then the connection ends with
    /// SETTINGS_TIMEOUT (RFC 9113 §6.5.3).
    pub settings_ack: Duration,
    /// Silence in both directions, while a stream is open, after which a PING asks whether the client is still there.
    pub ping_interval: Duration,
    /// From that PING to anything that the client sends. Then the connection ends.
    pub ping_answer: Duration,
    /// From the first GOAWAY of a graceful end to the last one, unless the client acknowledges the PING between them
    /// sooner (RFC 9113 §6.8). Streams that are open then are still served.
    pub goodbye: Duration,
    /// For writing the GOAWAY of a connection error, and for closing the socket.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            settings_ack: Duration::from_secs(30),
            ping_interval: Duration::from_secs(60),
            ping_answer: Duration::from_secs(20),
            goodbye: Duration::from_secs(2),
            close: Duration::from_secs(5),
        }
    }
}
