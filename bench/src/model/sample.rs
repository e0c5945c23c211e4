//! One completed request: its times on the client's clock, and the server's stage times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::part::StageTimes;

/// When the steps of a request were reached, since its start, on the client's clock. Each mark is at or after the one
/// before, except `tls` and `round_trip`, which are lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The connection was ready, opened or reused.
    pub connected: Duration,
    /// Length of the TLS handshake, which `connected` includes; `None` without TLS.
    #[serde(default)]
    pub tls: Option<Duration>,
    /// Round trip of a packet on its connection, by the handshake; `None` if it is unknown.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// The request was encoded and handed to the connection.
    pub encoded: Duration,
    /// The system accepted the last byte of the request.
    pub sent: Duration,
    /// The response's head arrived.
    pub first_byte: Duration,
    /// The response was complete.
    pub last_byte: Duration,
    /// The response was checked to be a success.
    pub decoded: Duration,
}

/// One completed request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Intended send time since the start of the run; in a closed loop, the actual send time.
    pub start: Duration,
    /// Completion minus start.
    pub latency: Duration,
    /// Delay from the intended to the actual send; 0 in a closed loop. The rest of the latency is service time.
    pub lag: Duration,
    /// The client's marks since it was sent.
    pub marks: Marks,
    /// The server's stage times, if it sent them.
    pub stages: Option<StageTimes>,
}

impl Sample {
    /// When it was completed, since the start of the run.
    pub fn end(&self) -> Duration {
        self.start + self.latency
    }

    /// Completion minus send.
    pub fn service(&self) -> Duration {
        self.latency.saturating_sub(self.lag)
    }
}
