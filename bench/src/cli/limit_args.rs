//! Flags of the limits: timeouts, response size, requests in flight.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::numbers::{MAX_CONCURRENCY, counts},
    model::{duration::parse_duration, limits::Limits},
};

/// Limits of the client.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Time limit for opening a connection.
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Limits", value_parser = parse_duration)]
    pub connect_timeout: Duration,
    /// Time limit for one request.
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = "Limits", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// Largest response accepted, in bytes; a larger one counts as a failure.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_response_bytes, help_heading = "Limits")]
    pub max_response_bytes: usize,
    /// Maximum number of requests in the windows of one concurrent load; a window ends when its share is sent.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_window_requests, help_heading = "Limits")]
    pub max_window_requests: usize,
    /// Maximum number of requests in flight in an open loop; further ones wait, and the wait counts as latency.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_in_flight as u16, help_heading = "Limits",
          value_parser = counts(MAX_CONCURRENCY))]
    pub max_in_flight: u16,
}

impl LimitArgs {
    /// The limits.
    pub fn limits(&self) -> Limits {
        Limits {
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            max_response_bytes: self.max_response_bytes,
            max_window_requests: self.max_window_requests,
            max_in_flight: self.max_in_flight.into(),
        }
    }
}
