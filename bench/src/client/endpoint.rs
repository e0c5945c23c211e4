//! An address: host and port, with or without TLS, or a Unix domain socket.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::{HeaderValue, uri::Authority};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::client::{tcp_info::tcp_info, tls::Trust};

/// Where to connect: host and port, with or without TLS, or a Unix domain socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    authority: Authority,
    port: u16,
    /// Address to connect to instead, e.g. of an emulated link; not shown.
    via: Option<SocketAddr>,
    /// Round trip that the emulated link adds.
    emulated: Duration,
    socket: Option<PathBuf>,
    /// Trusted authorities, if TLS is used.
    trust: Option<Trust>,
    /// `Bearer TOKEN`, if requests bring a token; not shown.
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// A port on this machine.
    pub fn local(port: u16) -> Self {
        Self {
            authority: Authority::from_static("127.0.0.1"),
            port,
            via: None,
            emulated: Duration::ZERO,
            socket: None,
            trust: None,
            authorization: None,
        }
    }

    /// A Unix domain socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { socket: Some(path.into()), ..Self::local(0) }
    }

    /// The host for name resolution (an IPv6 address without brackets).
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, for a Unix domain socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The trusted authorities; `None` without TLS.
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// The same endpoint with other trusted authorities, if it uses TLS.
    pub fn trusting(self, trust: &Trust) -> Self {
        Self { trust: self.trust.map(|_| trust.clone()), ..self }
    }

    /// The same endpoint, whose requests bring this value of `Authorization`.
    pub fn authorised(self, authorization: &HeaderValue) -> Self {
        Self { authorization: Some(authorization.clone()), ..self }
    }

    /// The value of `Authorization` that requests bring.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The address with a scheme, `http` or `grpc`; with TLS, `https` or `grpcs`.
    pub fn url(&self, scheme: &str) -> String {
        if self.socket.is_some() {
            return self.to_string();
        }
        let s = if self.trust.is_some() { "s" } else { "" };
        format!("{scheme}{s}://{}", self.authority())
    }

    /// The same endpoint, reached through the address of an emulated link with this round trip.
    pub fn through(self, via: SocketAddr, round_trip: Duration) -> Self {
        Self { via: Some(via), emulated: round_trip, ..self }
    }

    /// The same endpoint, reached directly.
    pub fn direct(self) -> Self {
        Self { via: None, emulated: Duration::ZERO, ..self }
    }

    /// The round trip of a new connection by the kernel's handshake, with that of an emulated link; `None` if it is unknown.
    pub fn round_trip(&self, stream: &TcpStream) -> Option<Duration> {
        Some(Duration::from_micros(tcp_info(stream)?.rtt_us.into()) + self.emulated)
    }

    /// Opens a TCP connection.
    ///
    /// # Errors
    /// The system's error.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self.via {
            Some(via) => TcpStream::connect(via).await?,
            None => TcpStream::connect((self.host(), self.port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// `host:port`, for the `Host` header and HTTP/2's `:authority`.
    pub fn authority(&self) -> String {
        match self.socket {
            // There is no host; curl does the same.
            Some(_) => "localhost".to_owned(),
            None => format!("{}:{}", self.authority.host(), self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| EndpointError { input: input.to_owned(), reason: reason.to_owned() };
        if let Some(path) = input.strip_prefix("http+unix://").or_else(|| input.strip_prefix("unix:")) {
            if path.is_empty() {
                return Err(error("the path of the socket is missing"));
            }
            return Ok(Self::unix(path));
        }
        let (rest, tls) = match input.split_once("://") {
            None => (input, false),
            Some(("http" | "grpc", rest)) => (rest, false),
            Some(("https" | "grpcs", rest)) => (rest, true),
            Some((scheme, _)) => return Err(error(&format!("unknown scheme `{scheme}`"))),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('/') {
            return Err(error("a path is not allowed"));
        }
        let authority: Authority = rest.parse().map_err(|e| error(&format!("{e}")))?;
        if authority.as_str().contains('@') {
            return Err(error("a user name is not allowed"));
        }
        let port = authority.port_u16().ok_or_else(|| error("the port is missing"))?;
        let trust = tls.then(Trust::public).transpose().map_err(|e| error(&e.to_string()))?;
        let emulated = Duration::ZERO;
        Ok(Self { authority, port, via: None, emulated, socket: None, trust, authorization: None })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(path) => write!(f, "unix:{}", path.display()),
            None if self.trust.is_some() => f.write_str(&self.url("http")),
            None => f.write_str(&self.authority()),
        }
    }
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not an address: {reason}; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH")]
pub struct EndpointError {
    input: String,
    reason: String,
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
    fn parses_every_form_of_an_address() {
        for text in ["http://10.0.0.1:8010", "10.0.0.1:8010", "grpc://10.0.0.1:8010", "http://10.0.0.1:8010/"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.host(), endpoint.port(), endpoint.authority().as_str()),
                ("10.0.0.1", 8010, "10.0.0.1:8010")
            );
        }
        for text in ["https://h:1", "grpcs://h:1"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.url("grpc").as_str(), endpoint.to_string().as_str()), ("grpcs://h:1", "https://h:1"));
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "the form in a report parses back");
        }
        let six: Endpoint = "http://[::1]:8010".parse().unwrap();
        assert_eq!((six.host(), six.to_string().as_str()), ("::1", "[::1]:8010"));
        for text in ["unix:/run/quintet.sock", "http+unix:///run/quintet.sock"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.socket(), Some(Path::new("/run/quintet.sock")));
            assert_eq!(
                (endpoint.authority().as_str(), &String::from(endpoint)[..]),
                ("localhost", "unix:/run/quintet.sock")
            );
        }
    }

    #[test]
    fn errors_name_the_address_and_the_reason() {
        let reasons: Vec<_> = ["localhost", "https://h", "ftp://h:1", "h:1/path", "u@h:1", "h:99999", ""]
            .map(|text| text.parse::<Endpoint>().unwrap_err().to_string())
            .to_vec();
        insta::assert_snapshot!(reasons.join("\n"), @r"
        `localhost` is not an address: the port is missing; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `https://h` is not an address: the port is missing; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `ftp://h:1` is not an address: unknown scheme `ftp`; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `h:1/path` is not an address: a path is not allowed; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `u@h:1` is not an address: a user name is not allowed; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `h:99999` is not an address: the port is missing; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        `` is not an address: empty string; use http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:PATH
        ");
    }
}
