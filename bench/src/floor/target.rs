//! Parses `--target` of `floor`: `name=http://host:port,grpc://host:port,http+unix:/path,grpc+unix:/path`, and
//! `http+shm://host:port` for tensors in shared memory, and `jpeg://host:port` for the jpeg lane.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`.
    Tcp(String),
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// The authority of HTTP requests to this address.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Tcp(authority) => authority,
            Self::Unix(_) => "localhost",
        }
    }
}

/// The protocol at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// KServe v2 with binary tensors over HTTP/1.1.
    Http,
    /// The same with tensors in system shared memory.
    SharedMemory,
    /// KServe v2 over gRPC.
    Grpc,
    /// Base64 photographs in JSON.
    Jpeg,
}

/// A protocol and an address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) protocol: Protocol,
    pub(super) address: Address,
}

/// `http`, `http-shm`, `grpc`, `jpeg`, `http-uds` or `grpc-uds`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            Protocol::Http => "http",
            Protocol::SharedMemory => "http-shm",
            Protocol::Grpc => "grpc",
            Protocol::Jpeg => "jpeg",
        })?;
        match self.address {
            Address::Tcp(_) => Ok(()),
            Address::Unix(_) => f.write_str("-uds"),
        }
    }
}

/// A named server with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) name: String,
    pub(super) routes: Vec<Route>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write name=http://HOST:PORT,grpc://HOST:PORT,http+unix:PATH,grpc+unix:PATH,http+shm://HOST:PORT,jpeg://HOST:PORT (one address is enough)";
        let (name, addresses) = text.split_once('=').ok_or_else(|| format!("`{text}` has no name; {hint}"))?;
        if name.is_empty() || name == crate::floor::target::FLOOR {
            return Err(format!("`{name}` cannot be the name of a server; {hint}"));
        }
        let route = |address| parse_route(address).ok_or_else(|| format!("`{address}` is not an address; {hint}"));
        Ok(Self { name: name.to_owned(), routes: addresses.split(',').map(route).collect::<Result<_, _>>()? })
    }
}

fn parse_route(text: &str) -> Option<Route> {
    let (scheme, rest) = text.split_once(':')?;
    let (protocol, unix) = match scheme {
        "http" => (Protocol::Http, false),
        "grpc" => (Protocol::Grpc, false),
        "http+shm" => (Protocol::SharedMemory, false),
        "jpeg" => (Protocol::Jpeg, false),
        "http+unix" => (Protocol::Http, true),
        "grpc+unix" => (Protocol::Grpc, true),
        _ => return None,
    };
    let rest = if unix { rest.strip_prefix("//").unwrap_or(rest) } else { rest.strip_prefix("//")? };
    let address = match unix {
        true if !rest.is_empty() => Address::Unix(rest.into()),
        false if rest.parse::<http::uri::Authority>().ok()?.port().is_some() => Address::Tcp(rest.to_owned()),
        _ => return None,
    };
    Some(Route { protocol, address })
}

/// Name of the floor's lanes.
pub(super) const FLOOR: &str = "floor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_name_and_addresses() {
        let target: Target =
            "t=http://h:8000,grpc://[::1]:8001,http+unix:/a b.sock,grpc+unix:///c,http+shm://h:1,jpeg://h:2"
                .parse()
                .unwrap();
        assert_eq!(target.name, "t");
        let routes: Vec<_> = target.routes.iter().map(|route| format!("{route} {:?}", route.address)).collect();
        insta::assert_snapshot!(routes.join("\n"), @r#"
        http Tcp("h:8000")
        grpc Tcp("[::1]:8001")
        http-uds Unix("/a b.sock")
        grpc-uds Unix("/c")
        http-shm Tcp("h:1")
        jpeg Tcp("h:2")
        "#);
    }

    #[test]
    fn a_malformed_target_is_refused_with_the_form() {
        for text in ["http://h:1", "t=", "t=h:1", "t=http://h", "t=https://h:1", "t=http+unix:", "floor=http://h:1"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains("write name=http://"), "{text}: {error}");
        }
    }
}
