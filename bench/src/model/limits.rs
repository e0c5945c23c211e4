//! Limits of the client: timeouts, response size, requests in flight.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::seconds;

/// Limits of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Longest time to open a connection.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub connect_timeout: Duration,
    /// Longest time for one request, from send to the last byte of the response.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub request_timeout: Duration,
    /// Largest response that is read, in bytes.
    pub max_response_bytes: usize,
    /// Most requests that the windows of one concurrent load send; a window ends early when its share is sent.
    pub max_window_requests: usize,
    /// Most requests in flight, and so connections, in an open loop; further requests wait, and their latency includes
    /// the wait.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            max_response_bytes: 64 << 20,
            max_window_requests: 1_000_000,
            max_in_flight: max_in_flight(),
        }
    }
}

fn max_in_flight() -> usize {
    256
}
