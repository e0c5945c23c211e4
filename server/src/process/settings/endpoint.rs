//! The endpoint of a listener: a port, with or without an address.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where a listener listens: `8010` on the common address, or `0.0.0.0:8010`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "String")]
pub struct Endpoint {
    address: Option<IpAddr>,
    port: u16,
}

impl Endpoint {
    /// This port on the common address.
    pub const fn port(port: u16) -> Self {
        Self { address: None, port }
    }

    /// The socket address, with `common` if the endpoint has no address of its own.
    pub fn on(self, common: IpAddr) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(common), self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, "{}", self.port),
        }
    }
}

/// The text is not an endpoint.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not an endpoint: use a port or an address with a port, such as 8010 or 0.0.0.0:8010")]
pub struct NotAnEndpoint(String);

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        if let Ok(port) = text.parse() {
            return Ok(Self::port(port));
        }
        let socket: SocketAddr = text.parse().map_err(|_| NotAnEndpoint(text.to_owned()))?;
        Ok(Self { address: Some(socket.ip()), port: socket.port() })
    }
}

impl TryFrom<toml::Value> for Endpoint {
    type Error = NotAnEndpoint;

    fn try_from(value: toml::Value) -> Result<Self, NotAnEndpoint> {
        match value {
            toml::Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ports_and_addresses() {
        assert!("8010".parse::<Endpoint>().is_ok() && "[::1]:8010".parse::<Endpoint>().is_ok());
        assert!("localhost".parse::<Endpoint>().unwrap_err().to_string().contains("0.0.0.0:8010"));
    }
}
