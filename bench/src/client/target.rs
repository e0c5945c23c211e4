//! A lane to measure: its addresses and its model.

use quintet_proto::lanes::{Lane as Kind, ONNX_METRICS_PORT, TRT_METRICS_PORT};

use crate::{
    client::endpoint::Endpoint,
    model::{lane::Lane, protocol::Protocol},
};

/// One lane to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The lane.
    pub lane: Lane,
    /// The address of the lane.
    pub endpoint: Endpoint,
    /// The address of its service's metrics.
    pub metrics: Endpoint,
    /// The name of the model.
    pub model: String,
}

impl Target {
    /// The protocol of the lane.
    pub fn protocol(&self) -> Protocol {
        Protocol::of(self.lane)
    }

    /// The address with its scheme.
    pub fn url(&self) -> String {
        self.endpoint.url(if self.protocol() == Protocol::KserveGrpc { "grpc" } else { "http" })
    }
}

/// Default address of a lane of the suite.
pub fn default_endpoint(lane: Kind) -> Endpoint {
    Endpoint::local(lane.default_port())
}

/// Default address of the metrics of a lane's service; the jpeg service has them on the lane's port.
pub fn default_metrics(lane: Kind) -> Endpoint {
    Endpoint::local(match lane {
        Kind::Jpeg => lane.default_port(),
        Kind::OnnxHttp | Kind::OnnxGrpc => ONNX_METRICS_PORT,
        Kind::TrtHttp | Kind::TrtGrpc => TRT_METRICS_PORT,
    })
}
