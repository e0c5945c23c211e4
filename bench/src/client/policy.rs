//! The connection axis: whose connection a request goes out on.

use std::{fmt, num::NonZeroU16, str::FromStr, sync::Arc, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{CallError, Connection, Prepared, Reply};

/// Which connections a lane's workers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Policy {
    /// A connection for each request: opening it is a part of the latency, closing it is not.
    Fresh,
    /// A connection for each worker, kept.
    #[default]
    Reused,
    /// So many connections for all workers. HTTP/1.1 requests wait for their turn, HTTP/2 requests share.
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
                format!("`{text}` is no connection policy; write fresh, reused or a number of connections")
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

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

/// One worker's way to its server.
pub(super) enum Way {
    /// Kept between requests.
    Own(Connection),
    /// Closed after each request.
    Fresh(Connection),
    /// One of a few that all workers use.
    Shared(Arc<Mutex<Connection>>),
}

impl Way {
    /// Opens the connection ahead of the first request, where it is kept.
    pub(super) async fn connect(&mut self) -> Result<(), CallError> {
        match self {
            Self::Own(connection) => connection.connect().await,
            Self::Fresh(_) => Ok(()),
            Self::Shared(connection) => connection.lock().await.connect().await,
        }
    }

    /// Sends a request and reads its answer.
    pub(super) async fn call(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        let started = Instant::now();
        match self {
            Self::Own(connection) | Self::Fresh(connection) => connection.call_since(request, started).await,
            Self::Shared(connection) => {
                let mut connection = connection.lock().await;
                match connection.share().await? {
                    Some(mut stream) => {
                        drop(connection);
                        stream.call_since(request, started).await
                    }
                    None => connection.call_since(request, started).await,
                }
            }
        }
    }

    /// Closes the worker's own connection.
    pub(super) async fn close(&mut self) {
        if let Self::Own(connection) | Self::Fresh(connection) = self {
            connection.close().await;
        }
    }

    /// Closes what is not kept; not a part of the request.
    pub(super) async fn settle(&mut self) {
        if let Self::Fresh(connection) = self {
            connection.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["fresh", "reused", "4"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "new", "70000"] {
            assert!(text.parse::<Policy>().unwrap_err().contains("write fresh, reused or a number"));
        }
    }
}
