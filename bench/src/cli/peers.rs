//! Parses `--against`: peers of the suite, measured in the same run.

use std::str::FromStr;

use quintet_proto::lanes::Lane as Kind;

use crate::{
    client::{
        endpoint::{Endpoint, EndpointError},
        target::Target,
    },
    model::lane::{BadPeer, Lane, Peer},
};

/// Ports of stock Triton and of PyTorch in docker compose's profile `triton`: lane, port of the lane, port of the
/// metrics.
const TRITON: [(Kind, u16, u16); 5] = [
    (Kind::Jpeg, 8102, 8102),
    (Kind::OnnxHttp, 8110, 8112),
    (Kind::OnnxGrpc, 8111, 8112),
    (Kind::TrtHttp, 8120, 8122),
    (Kind::TrtGrpc, 8121, 8122),
];

/// A peer with some of the five lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    peer: Peer,
    lanes: Vec<(Kind, Endpoint)>,
    /// Metrics pages by service.
    metrics: Vec<(String, Endpoint)>,
}

/// Why a value of `--against` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgainstError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] BadPeer),
    /// An address is not valid.
    #[error(transparent)]
    Address(#[from] EndpointError),
    /// An item is not an address of a lane.
    #[error(
        "`{0}` is not LANE=URL: write one of jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc or trt-metrics \
         before the address"
    )]
    Lane(String),
    /// There is no lane.
    #[error(
        "`{0}` has no address: write {0}=onnx-http=http://HOST:PORT,onnx-grpc=...; only `triton` has default addresses"
    )]
    NoLane(String),
}

impl Against {
    /// The peer's lanes as targets, all with one model.
    pub fn targets(&self, model: &str) -> impl Iterator<Item = Target> {
        self.lanes.iter().map(|(kind, endpoint)| {
            let metrics = self.metrics.iter().find(|(service, _)| service == kind.service());
            Target {
                lane: Lane::own(*kind).of(self.peer),
                endpoint: endpoint.clone(),
                // A server with the statistics extension needs no metrics page.
                metrics: metrics.map_or(endpoint, |(_, metrics)| metrics).clone(),
                model: model.to_owned(),
            }
        })
    }
}

impl FromStr for Against {
    type Err = AgainstError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, addresses) = text.split_once('=').unwrap_or((text, ""));
        let mut server = Self { peer: name.parse()?, lanes: Vec::new(), metrics: Vec::new() };
        if name == "triton" {
            server.lanes = TRITON.map(|(kind, port, _)| (kind, Endpoint::local(port))).to_vec();
            server.metrics = TRITON.map(|(kind, _, port)| (kind.service().to_owned(), Endpoint::local(port))).to_vec();
        }
        for address in addresses.split(',').filter(|address| !address.is_empty()) {
            let (key, url) = address.split_once('=').ok_or_else(|| AgainstError::Lane(address.to_owned()))?;
            let endpoint = url.parse()?;
            let service = key.strip_suffix("-metrics").filter(|service| ["onnx", "trt"].contains(service));
            if let Some(service) = service {
                set(&mut server.metrics, service.to_owned(), endpoint);
            } else if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == key) {
                if kind == Kind::Jpeg {
                    set(&mut server.metrics, kind.service().to_owned(), Endpoint::clone(&endpoint));
                }
                set(&mut server.lanes, kind, endpoint);
            } else {
                return Err(AgainstError::Lane(address.to_owned()));
            }
        }
        server.lanes.sort_unstable_by_key(|(kind, _)| *kind);
        if server.lanes.is_empty() { Err(AgainstError::NoLane(name.to_owned())) } else { Ok(server) }
    }
}

/// Sets a key's value; replaces an earlier one.
fn set<K: PartialEq>(pairs: &mut Vec<(K, Endpoint)>, key: K, value: Endpoint) {
    pairs.retain(|(other, _)| *other != key);
    pairs.push((key, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        let against: Against = text.parse().unwrap();
        let line = |target: Target| format!("{} {} {}", target.lane, target.url(), target.metrics);
        against.targets("m").map(line).collect()
    }

    #[test]
    fn triton_has_the_ports_of_docker_compose() {
        insta::assert_snapshot!(targets("triton").join("\n"), @r"
        triton/jpeg http://127.0.0.1:8102 127.0.0.1:8102
        triton/onnx-http http://127.0.0.1:8110 127.0.0.1:8112
        triton/onnx-grpc grpc://127.0.0.1:8111 127.0.0.1:8112
        triton/trt-http http://127.0.0.1:8120 127.0.0.1:8122
        triton/trt-grpc grpc://127.0.0.1:8121 127.0.0.1:8122
        ");
        let compose = include_str!("../../../docker-compose.yml");
        for (_, port, metrics) in TRITON {
            assert!(
                compose.contains(&format!(":{port}:{port}\n")) && compose.contains(&format!(":{metrics}:{metrics}\n"))
            );
        }
    }

    #[test]
    fn every_address_can_be_set() {
        let text = "triton=jpeg=http://pytorch:8102,trt-grpc=triton-trt:9,trt-metrics=http://triton-trt:10";
        insta::assert_snapshot!(targets(text).join("\n"), @r"
        triton/jpeg http://pytorch:8102 pytorch:8102
        triton/onnx-http http://127.0.0.1:8110 127.0.0.1:8112
        triton/onnx-grpc grpc://127.0.0.1:8111 127.0.0.1:8112
        triton/trt-http http://127.0.0.1:8120 triton-trt:10
        triton/trt-grpc grpc://triton-trt:9 triton-trt:10
        ");
        insta::assert_snapshot!(targets("old=onnx-grpc=h:1,onnx-http=h:2").join("\n"), @r"
        old/onnx-http http://h:2 h:2
        old/onnx-grpc grpc://h:1 h:1
        ");
    }

    #[test]
    fn errors_name_the_input_and_the_remedy() {
        let errors: Vec<_> =
            ["old", "old=", "old=onnx=h:1", "old=h:1", "onnx=onnx-http=h:1", "old=jpeg=h", "old=jpeg-metrics=h:1"]
                .map(|text| text.parse::<Against>().unwrap_err().to_string())
                .to_vec();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `old` has no address: write old=onnx-http=http://HOST:PORT,onnx-grpc=...; only `triton` has default addresses
        `old` has no address: write old=onnx-http=http://HOST:PORT,onnx-grpc=...; only `triton` has default addresses
        `onnx=h:1` is not LANE=URL: write one of jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc or trt-metrics before the address
        `h:1` is not LANE=URL: write one of jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc or trt-metrics before the address
        `onnx` cannot be a server's name: use up to 16 of a-z, 0-9 and -, but not the name of a lane or service
        `h` is not an address: the port is missing; use http://HOST[:PORT][/PREFIX], https://HOST, HOST:PORT or unix:PATH
        `jpeg-metrics=h:1` is not LANE=URL: write one of jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc or trt-metrics before the address
        ");
    }
}
