//! An address: host, port and path prefix, with or without TLS, or a Unix domain socket.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, header,
    uri::{Authority, PathAndQuery},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::client::{tcp_info::tcp_info, tls::Trust};

/// The default ports of addresses without TLS and with it.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// Where to connect: host, port and path prefix, with or without TLS, or a Unix domain socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    authority: Authority,
    port: u16,
    /// Begins the path of every request, e.g. `/models/a`; empty without one.
    prefix: String,
    /// Address to connect to instead, e.g. of an emulated link; not shown.
    via: Option<SocketAddr>,
    /// Round trip that the emulated link adds.
    emulated: Duration,
    socket: Option<PathBuf>,
    /// Trusted authorities, if TLS is used.
    trust: Option<Trust>,
    /// Sent with every request, e.g. a bearer token; not shown.
    headers: HeaderMap,
}

impl Endpoint {
    /// A port on this machine.
    pub fn local(port: u16) -> Self {
        Self {
            authority: Authority::from_static("127.0.0.1"),
            port,
            prefix: String::new(),
            via: None,
            emulated: Duration::ZERO,
            socket: None,
            trust: None,
            headers: HeaderMap::new(),
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

    /// The same endpoint, whose requests carry these headers too. `Host` is the authority of its requests.
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        // A later header replaces an earlier one of its name.
        self.headers.extend(headers.clone());
        self
    }

    /// The headers that requests carry, without `Host`.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().filter(|(name, _)| *name != header::HOST)
    }

    /// What the path of every request begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The address with a scheme, `http` or `grpc`; with TLS, `https` or `grpcs`.
    pub fn url(&self, scheme: &str) -> String {
        if self.socket.is_some() {
            return self.to_string();
        }
        let s = if self.trust.is_some() { "s" } else { "" };
        format!("{scheme}{s}://{}", self.place())
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

    /// `host:port`, for the `Host` header and HTTP/2's `:authority`; without the port if it is the scheme's default, as
    /// other clients write it.
    pub fn authority(&self) -> String {
        if let Some(host) = self.headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
            return host.to_owned();
        }
        match self.socket {
            // There is no host; curl does the same.
            Some(_) => "localhost".to_owned(),
            None if self.port == DEFAULT_PORTS[usize::from(self.trust.is_some())] => self.authority.host().to_owned(),
            None => format!("{}:{}", self.authority.host(), self.port),
        }
    }

    /// `host:port/prefix`.
    fn place(&self) -> String {
        format!("{}:{}{}", self.authority.host(), self.port, self.prefix)
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
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && (prefix.contains(['?', '#']) || prefix.parse::<PathAndQuery>().is_err()) {
            return Err(error("the path is not valid"));
        }
        let authority: Authority = host.parse().map_err(|e| error(&format!("{e}")))?;
        if authority.as_str().contains('@') {
            return Err(error("a user name is not allowed"));
        }
        let default = input.contains("://").then_some(DEFAULT_PORTS[usize::from(tls)]);
        // A port that is no number is not left out.
        let given = authority.port_u16().or(default.filter(|_| authority.as_str() == authority.host()));
        let port = given.ok_or_else(|| error("the port is missing"))?;
        let trust = tls.then(Trust::public).transpose().map_err(|e| error(&e.to_string()))?;
        // One form for each address, so that equal ones are equal.
        let authority = format!("{}:{port}", authority.host()).parse().map_err(|e| error(&format!("{e}")))?;
        Ok(Self { authority, port, prefix, trust, ..Self::local(port) })
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
            None => f.write_str(&self.place()),
        }
    }
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not an address: {reason}; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH")]
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
    use proptest::prelude::*;

    #[test]
    fn parses_every_form_of_an_address() {
        for text in ["http://10.0.0.1:8010", "10.0.0.1:8010", "grpc://10.0.0.1:8010", "http://10.0.0.1:8010/"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.host(), endpoint.port(), endpoint.authority().as_str()),
                ("10.0.0.1", 8010, "10.0.0.1:8010")
            );
        }
        let prefixed: Endpoint = "http://h/models/a/".parse().unwrap();
        assert_eq!((prefixed.port(), prefixed.prefix(), prefixed.authority().as_str()), (80, "/models/a", "h"));
        assert_eq!(
            (prefixed.url("grpc").as_str(), prefixed.to_string().parse()),
            ("grpc://h:80/models/a", Ok(prefixed))
        );
        let ports =
            ["http://h", "grpc://h", "https://h", "grpcs://h/x"].map(|url| url.parse::<Endpoint>().unwrap().port());
        assert_eq!(ports, [80, 80, 443, 443]);
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
        let reasons: Vec<_> = ["localhost", "http://h:", "ftp://h:1", "h:1/a b", "h:1/a?b", "u@h:1", "h:99999", ""]
            .map(|text| text.parse::<Endpoint>().unwrap_err().to_string())
            .to_vec();
        insta::assert_snapshot!(reasons.join("\n"), @r"
        `localhost` is not an address: the port is missing; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `http://h:` is not an address: the port is missing; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `ftp://h:1` is not an address: unknown scheme `ftp`; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `h:1/a b` is not an address: the path is not valid; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `h:1/a?b` is not an address: the path is not valid; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `u@h:1` is not an address: a user name is not allowed; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `h:99999` is not an address: the port is missing; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `` is not an address: empty string; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        ");
    }

    proptest! {
        #[test]
        fn an_address_in_a_report_parses_back(text in r"(http://|https://|grpc://|)[a-z0-9.]{1,9}(:[0-9]{1,6})?(/[a-z0-9/%.~]{0,9})?|.*") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
