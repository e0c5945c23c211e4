//! A lane to be measured: its addresses and its model.

use quintet_proto::lanes::{Lane as Kind, ONNX_METRICS_PORT, TRT_METRICS_PORT};

use crate::{
    client::endpoint::Endpoint,
    model::{lane::Lane, protocol::Protocol},
};

/// One lane to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The lane.
    pub lane: Lane,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where its service's metrics are.
    pub metrics: Endpoint,
    /// The model asked for.
    pub model: String,
}

impl Target {
    /// How the lane is spoken to.
    pub fn protocol(&self) -> Protocol {
        Protocol::of(self.lane)
    }

    /// The address as a person writes it.
    pub fn url(&self) -> String {
        self.endpoint.url(if self.protocol() == Protocol::KserveGrpc { "grpc" } else { "http" })
    }
}

/// Default endpoint of one of the suite's lanes on this machine.
pub fn default_endpoint(lane: Kind) -> Endpoint {
    Endpoint::local(lane.default_port())
}

/// Default endpoint of the metrics of a lane's service; the jpeg service's are on its own port.
pub fn default_metrics(lane: Kind) -> Endpoint {
    Endpoint::local(match lane {
        Kind::Jpeg => lane.default_port(),
        Kind::OnnxHttp | Kind::OnnxGrpc => ONNX_METRICS_PORT,
        Kind::TrtHttp | Kind::TrtGrpc => TRT_METRICS_PORT,
    })
}
