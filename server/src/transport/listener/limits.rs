//! Limits of a listener's connections, and the system's options for them.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;

use super::age::MaxAge;
use crate::transport::guard::Timeouts;

/// Limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections at once; a few more are only for probes.
    pub max: usize,
    /// Time limits of a connection.
    pub timeouts: Timeouts,
    /// Its longest life; `None` for no limit.
    pub max_age: Option<MaxAge>,
    /// Limits that the system checks, on TCP.
    pub tcp: TcpLimits,
}

/// Limits that the system checks for a TCP connection; `None` for the system's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// After this time without a packet, the system probes whether the peer is there (`SO_KEEPALIVE`).
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self { keepalive: Some(Duration::from_secs(60)), user_timeout: Some(Duration::from_secs(120)) }
    }
}

impl From<usize> for ConnectionLimits {
    /// At most `max` connections, and defaults.
    fn from(max: usize) -> Self {
        Self { max, timeouts: Timeouts::default(), max_age: None, tcp: TcpLimits::default() }
    }
}

/// Probes between the first one and the end of a connection whose peer does not answer.
const KEEPALIVE_PROBES: u32 = 4;

impl TcpLimits {
    /// Sets the options on a listener; Linux copies them to the connections that it accepts.
    ///
    /// # Errors
    /// When the system refuses an option.
    pub(super) fn apply(self, listener: &TcpListener) -> io::Result<()> {
        let socket = SockRef::from(listener);
        if let Some(time) = self.keepalive {
            let interval = (time / KEEPALIVE_PROBES).max(Duration::from_secs(1));
            let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
            socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
        }
        socket.set_tcp_user_timeout(self.user_timeout)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        TcpLimits::default().apply(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
    }
}
