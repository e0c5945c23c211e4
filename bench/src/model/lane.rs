//! A lane: one of the suite's five, or the same lane of a peer.

use std::{fmt, str::FromStr};

use quintet_proto::lanes::Lane as Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One protocol of one service of one server.
///
/// Written `onnx-http`, or `triton/onnx-http` for a lane of the peer `triton`. Ordered as in tables: the suite's lanes
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^([a-z0-9][a-z0-9-]*/)?(jpeg|onnx-http|onnx-grpc|trt-http|trt-grpc)$"))]
pub struct Lane {
    /// The peer; `None` for the suite's own lane.
    pub peer: Option<Peer>,
    /// One of the five kinds.
    pub kind: Kind,
}

impl Lane {
    /// Base64 JPEG over HTTP.
    pub const JPEG: Self = Self::own(Kind::Jpeg);
    /// ONNX Runtime over KServe HTTP.
    pub const ONNX_HTTP: Self = Self::own(Kind::OnnxHttp);
    /// ONNX Runtime over KServe gRPC.
    pub const ONNX_GRPC: Self = Self::own(Kind::OnnxGrpc);
    /// The TensorRT provider over KServe HTTP.
    pub const TRT_HTTP: Self = Self::own(Kind::TrtHttp);
    /// The TensorRT provider over KServe gRPC.
    pub const TRT_GRPC: Self = Self::own(Kind::TrtGrpc);
    /// The suite's lanes, in the order of every table.
    pub const ALL: [Self; 5] = [Self::JPEG, Self::ONNX_HTTP, Self::ONNX_GRPC, Self::TRT_HTTP, Self::TRT_GRPC];

    /// A lane of the suite.
    pub const fn own(kind: Kind) -> Self {
        Self { peer: None, kind }
    }

    /// The same lane of another server.
    pub const fn of(self, peer: Peer) -> Self {
        Self { peer: Some(peer), kind: self.kind }
    }

    /// The lane's service; lanes of one service of one server share its instances.
    pub fn service(self) -> &'static str {
        self.kind.service()
    }

    /// Whether `name` selects it: LANE, SERVICE, PEER/LANE, PEER/SERVICE or PEER.
    pub fn is_named(self, name: &str) -> bool {
        let plain = |name: &str| name == self.kind.name() || name == self.service();
        match (name.split_once('/'), self.peer) {
            (None, Some(peer)) => plain(name) || name == peer.as_str(),
            (None, None) => plain(name),
            (Some((server, name)), Some(peer)) => server == peer.as_str() && plain(name),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            None => f.pad(self.kind.name()),
            Some(peer) => f.pad(&format!("{peer}/{}", self.kind)),
        }
    }
}

/// A text that is not a lane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a lane; lanes are {}", Lane::ALL.map(|lane| lane.to_string()).join(", "))]
pub struct UnknownLane {
    name: String,
}

impl FromStr for Lane {
    type Err = UnknownLane;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownLane { name: name.to_owned() };
        let (peer, kind) = match name.split_once('/') {
            None => (None, name),
            Some((peer, kind)) => (Some(peer.parse().map_err(|_| unknown())?), kind),
        };
        let kind = Kind::ALL.into_iter().find(|lane| lane.name() == kind).ok_or_else(unknown)?;
        Ok(Self { peer, kind })
    }
}

impl TryFrom<String> for Lane {
    type Error = UnknownLane;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Lane> for String {
    fn from(lane: Lane) -> Self {
        lane.to_string()
    }
}

/// Name of a peer: up to 16 characters of a-z, 0-9 and `-`. Stored inline, so that lanes are `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer([u8; Self::MOST]);

/// A text that cannot be a peer's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` cannot be a server's name: use up to {} of a-z, 0-9 and -, but not the name of a lane or service",
    Peer::MOST
)]
pub struct BadPeer {
    name: String,
}

impl Peer {
    const MOST: usize = 16;

    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(Self::MOST);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl FromStr for Peer {
    type Err = BadPeer;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let taken = Lane::ALL.iter().any(|lane| lane.is_named(name));
        let mut bytes = [0; Self::MOST];
        match bytes.get_mut(..name.len()) {
            Some(place) if !name.is_empty() && !name.starts_with('-') && !taken && name.bytes().all(letters) => {
                place.copy_from_slice(name.as_bytes());
            }
            _ => return Err(BadPeer { name: name.to_owned() }),
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn triton() -> Peer {
        "triton".parse().unwrap()
    }

    #[test]
    fn lanes_parse_from_their_names() {
        for lane in Lane::ALL.into_iter().flat_map(|lane| [lane, lane.of(triton())]) {
            assert_eq!(lane.to_string().parse(), Ok(lane));
        }
        assert_eq!(Lane::ONNX_GRPC.of(triton()).to_string(), "triton/onnx-grpc");
        for bad in ["", "onnx", "triton/onnx", "triton/", "/jpeg", "a b/jpeg", "jpeg/jpeg", "x/y/jpeg", "Triton/jpeg"] {
            assert!(bad.parse::<Lane>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_suite_comes_first() {
        let mut lanes: Vec<_> = Lane::ALL.into_iter().rev().flat_map(|lane| [lane.of(triton()), lane]).collect();
        lanes.sort_unstable();
        assert_eq!(lanes[..5], Lane::ALL);
        assert_eq!(lanes[5..], Lane::ALL.map(|lane| lane.of(triton())));
    }

    #[test]
    fn a_name_may_select_several_lanes() {
        let lanes: Vec<_> = Lane::ALL.into_iter().chain(Lane::ALL.map(|lane| lane.of(triton()))).collect();
        let named = |name: &str| lanes.iter().filter(|lane| lane.is_named(name)).count();
        assert_eq!(
            ["trt", "triton/trt", "triton", "triton/jpeg", "jpeg", "other", "other/jpeg"].map(named),
            [4, 2, 5, 1, 2, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn any_name_parses_without_panic(name in "[a-z0-9/-]{0,20}|.*") {
            if let Ok(peer) = name.parse::<Peer>() {
                prop_assert_eq!(peer.to_string(), name.clone());
                prop_assert!(!name.is_empty() && name.len() <= 16);
            }
            if let Ok(lane) = name.parse::<Lane>() {
                prop_assert_eq!(lane.to_string(), name);
            }
        }
    }
}
