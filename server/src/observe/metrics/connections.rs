//! Counts connections that the server ended before their time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::Label;

use super::{
    format::Format,
    names::CONNECTIONS_CLOSED,
    text::{self, Family},
};

/// Why the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client sent nothing.
    FirstByte,
    /// A head was incomplete for too long.
    Head,
    /// A body came too slowly.
    Body,
    /// An answer was taken too slowly.
    Answer,
    /// No request was open for long.
    Idle,
    /// The client did not acknowledge the SETTINGS of HTTP/2.
    Settings,
    /// The client did not answer a PING of HTTP/2.
    Ping,
    /// The client made the server work in vain over HTTP/2 (ENHANCE_YOUR_CALM).
    Calm,
    /// The connection reached its maximum age.
    Age,
    /// The listener was at its limit, and this connection rested the longest.
    Shed,
    /// The listener was at its limit, and no connection rested.
    Refused,
}

impl Closed {
    const ALL: [Self; 11] = [
        Self::FirstByte,
        Self::Head,
        Self::Body,
        Self::Answer,
        Self::Idle,
        Self::Settings,
        Self::Ping,
        Self::Calm,
        Self::Age,
        Self::Shed,
        Self::Refused,
    ];

    /// The value of the label `reason`.
    fn label(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Idle => "idle",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Calm => "calm",
            Self::Age => "age",
            Self::Shed => "shed",
            Self::Refused => "refused",
        }
    }
}

/// Counters of a service's connections by the reason of their end.
#[derive(Debug, Default)]
pub struct ConnectionCounters([AtomicU64; Closed::ALL.len()]);

impl ConnectionCounters {
    /// Counts one connection.
    pub fn count(&self, closed: Closed) {
        self.0[closed as usize].fetch_add(1, Relaxed);
    }

    /// How many were counted.
    pub fn get(&self, closed: Closed) -> u64 {
        self.0[closed as usize].load(Relaxed)
    }

    pub(super) fn family(&self, format: Format) -> Family {
        let mut family = Family::new(format, "counter", CONNECTIONS_CLOSED);
        for closed in Closed::ALL {
            family.sample(&text::labels(vec![Label::new("reason", closed.label())]), self.get(closed));
        }
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter() {
        let counters = ConnectionCounters::default();
        counters.count(Closed::Shed);
        for (index, closed) in Closed::ALL.into_iter().enumerate() {
            assert_eq!(closed as usize, index);
            assert_eq!(counters.get(closed), u64::from(closed == Closed::Shed));
        }
        let text = counters.family(Format::Text).into_text().unwrap();
        assert!(text.contains("quintet_connections_closed_total{reason=\"shed\"} 1\n"), "{text}");
    }
}
