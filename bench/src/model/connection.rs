//! Connections: the policy, the TLS version, the traffic.

use std::{fmt, num::NonZeroU16, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which connections a lane's workers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Policy {
    /// A connection for each request. The latency includes opening it, but not closing it.
    Fresh,
    /// A connection for each worker, which all its requests reuse.
    #[default]
    Reused,
    /// A number of connections that all workers share. HTTP/1.1 requests wait for a free one, HTTP/2 requests run side by
    /// side.
    Shared(NonZeroU16),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("fresh"),
            Self::Reused => f.write_str("reused"),
            Self::Shared(n) => write!(f, "{n}"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fresh" => Ok(Self::Fresh),
            "reused" => Ok(Self::Reused),
            number => number.parse().map(Self::Shared).map_err(|_| {
                format!("`{text}` is not a connection policy; write fresh, reused or a number of connections")
            }),
        }
    }
}

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Version of TLS that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLSv1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSv1.3")]
    V1_3,
}

impl TlsVersion {
    /// Round trips of a full handshake, before the first byte of a request can leave.
    pub fn round_trips(self) -> u32 {
        match self {
            Self::V1_2 => 2,
            Self::V1_3 => 1,
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        })
    }
}

/// Connections and bytes, counted at the socket: with the protocol's framing, without the headers of TCP and IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Connections opened.
    pub opened: u64,
    /// Most connections open at once.
    pub most_open: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

impl Traffic {
    /// The traffic since an earlier reading; `most_open` is kept.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            opened: self.opened.saturating_sub(before.opened),
            most_open: self.most_open,
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
        }
    }

    /// The sum of the traffic of two blocks.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            opened: self.opened + other.opened,
            most_open: self.most_open.max(other.most_open),
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_parse_from_their_names() {
        for text in ["fresh", "reused", "4"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "new", "70000"] {
            assert!(text.parse::<Policy>().unwrap_err().contains("write fresh, reused or a number"));
        }
    }
}
