//! One completed request: its times on the client's clock, and the server's stage times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::part::StageTimes;

/// When a call had got how far, since its start, on the client's clock. Each mark but `tls`, which is a length, is at or
/// after the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// There was a connection, opened or kept.
    pub connected: Duration,
    /// How much of that was the TLS handshake; `None` where TLS is not spoken.
    #[serde(default)]
    pub tls: Option<Duration>,
    /// The request was made and handed to the connection.
    pub encoded: Duration,
    /// The system had taken the last byte of the request.
    pub sent: Duration,
    /// The head of the answer was there.
    pub first_byte: Duration,
    /// The answer was complete.
    pub last_byte: Duration,
    /// The answer was found to be a success.
    pub decoded: Duration,
}

/// One completed request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was to be sent, since the start of the run; in a closed loop that is when it was sent.
    pub start: Duration,
    /// Completion minus start.
    pub latency: Duration,
    /// How much later than intended it was sent; 0 in a closed loop. The rest of the latency is service time.
    pub lag: Duration,
    /// How it went on from when it was sent, as the client saw it.
    pub marks: Marks,
    /// What the server says about its part, if anything.
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
