//! The protocol of a lane.

use quintet_proto::lanes::Lane as Kind;

use crate::model::lane::Lane;

/// The protocol of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JSON with base64 JPEGs over HTTP/1.1.
    Jpeg,
    /// KServe v2 with binary tensors over HTTP/1.1.
    KserveHttp,
    /// KServe v2 over gRPC (HTTP/2).
    KserveGrpc,
}

impl Protocol {
    /// The protocol of a lane.
    pub fn of(lane: Lane) -> Self {
        match lane.kind {
            Kind::Jpeg => Self::Jpeg,
            Kind::OnnxHttp | Kind::TrtHttp => Self::KserveHttp,
            Kind::OnnxGrpc | Kind::TrtGrpc => Self::KserveGrpc,
        }
    }
}
