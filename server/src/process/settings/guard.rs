//! Settings of the guard around every connection: how long a client may take.

use std::time::Duration;

use crate::transport::{
    guard::{Rate, Timeouts},
    listener::TcpLimits,
};

settings! {
    GuardFlags {}
    GuardSettings {}
    defaults {}
    /// Seconds that a new connection may stay silent, so that connections nobody uses are given back; 0 for no limit [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    first_byte_timeout_secs: u64 = 60, "QUINTET_FIRST_BYTE_TIMEOUT_SECS";
    /// Seconds that the head of a request may take from its first byte (the handshake of TLS included), so that a request that never begins does not hold a connection; then 408; 0 for no limit [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    head_timeout_secs: u64 = 60, "QUINTET_HEAD_TIMEOUT_SECS";
    /// Seconds that a connection may stay open without a request, so that forgotten ones are given back; one with an open stream has a request; 0 for no limit [default: 300]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    idle_timeout_secs: u64 = 300, "QUINTET_IDLE_TIMEOUT_SECS";
    /// Bytes per second that must come of a request's body, averaged over --rate-window-secs, so that a client that stops sending does not hold memory; then 408; 0 for no limit [default: 256]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    min_receive_rate: u64 = 256, "QUINTET_MIN_RECEIVE_RATE";
    /// Bytes per second that a client must take of an answer that waits for it, averaged over --rate-window-secs, so that a client that stops reading does not hold memory; 0 for no limit [default: 256]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    min_send_rate: u64 = 256, "QUINTET_MIN_SEND_RATE";
    /// Seconds over which the rates of --min-receive-rate and --min-send-rate are averaged: a client may pause for almost as long [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    rate_window_secs: u64 = 60, "QUINTET_RATE_WINDOW_SECS";
    /// Seconds that an HTTP/2 client may take to acknowledge the server's SETTINGS, so that one that only opened a connection does not hold it; 0 for no limit [default: 30]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    http2_settings_timeout_secs: u64 = 30, "QUINTET_HTTP2_SETTINGS_TIMEOUT_SECS";
    /// Seconds of silence on an HTTP/2 connection with open streams after which a PING asks whether the client is still there, so that streams of vanished clients are given back; 0 for never [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    http2_ping_interval_secs: u64 = 60, "QUINTET_HTTP2_PING_INTERVAL_SECS";
    /// Seconds that an HTTP/2 client may take to answer a PING of --http2-ping-interval-secs; a client at 64 kbit/s may have 450 KiB to send before its answer; 0 for no limit [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    http2_ping_timeout_secs: u64 = 60, "QUINTET_HTTP2_PING_TIMEOUT_SECS";
    /// Seconds without a packet after which the system asks whether the peer of a TCP connection is still there, so that connections of vanished clients are given back; 0 for never [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    tcp_keepalive_secs: u64 = 60, "QUINTET_TCP_KEEPALIVE_SECS";
    /// Seconds that sent bytes may stay unacknowledged by the peer of a TCP connection, so that the system drops what a vanished client will not read; 0 for the system's default [default: 120]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    tcp_user_timeout_secs: u64 = 120, "QUINTET_TCP_USER_TIMEOUT_SECS";
}

/// A limit in seconds; 0 for none.
fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl GuardSettings {
    /// The time limits of a connection.
    pub fn timeouts(&self) -> Timeouts {
        let rate = |bytes_per_second| Rate { bytes_per_second, window: Duration::from_secs(self.rate_window_secs) };
        Timeouts {
            first_byte: limit(self.first_byte_timeout_secs),
            head: limit(self.head_timeout_secs),
            idle: limit(self.idle_timeout_secs),
            receive: rate(self.min_receive_rate),
            send: rate(self.min_send_rate),
            settings_ack: limit(self.http2_settings_timeout_secs),
            ping_interval: limit(self.http2_ping_interval_secs),
            ping_idle: false,
            ping_answer: limit(self.http2_ping_timeout_secs),
        }
    }

    /// The limits that the system checks.
    pub fn tcp(&self) -> TcpLimits {
        TcpLimits { keepalive: limit(self.tcp_keepalive_secs), user_timeout: limit(self.tcp_user_timeout_secs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_a_listener() {
        let settings = GuardSettings::default();
        assert_eq!(settings.timeouts(), Timeouts::default());
        assert_eq!(settings.tcp(), TcpLimits::default());
    }

    #[test]
    fn zero_is_no_limit() {
        let settings = GuardSettings { idle_timeout_secs: 0, tcp_keepalive_secs: 0, ..GuardSettings::default() };
        assert_eq!((settings.timeouts().idle, settings.tcp().keepalive), (None, None));
    }
}
