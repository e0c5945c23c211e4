//! The five lanes of the server and the benchmark, with their names and ports.

use std::fmt;

/// A lane: one protocol in front of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Base64 JPEG over HTTP.
    Jpeg,
    /// ONNX Runtime over KServe HTTP.
    OnnxHttp,
    /// ONNX Runtime over KServe gRPC.
    OnnxGrpc,
    /// ONNX Runtime's TensorRT provider over KServe HTTP.
    TrtHttp,
    /// ONNX Runtime's TensorRT provider over KServe gRPC.
    TrtGrpc,
}

impl Lane {
    /// All lanes, in the order of every table.
    pub const ALL: [Self; 5] = [Self::Jpeg, Self::OnnxHttp, Self::OnnxGrpc, Self::TrtHttp, Self::TrtGrpc];

    /// The lane's name in flags, logs and reports, e.g. `onnx-grpc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::OnnxHttp => "onnx-http",
            Self::OnnxGrpc => "onnx-grpc",
            Self::TrtHttp => "trt-http",
            Self::TrtGrpc => "trt-grpc",
        }
    }

    /// The service behind the lane; lanes of one service share its instances.
    pub fn service(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::OnnxHttp | Self::OnnxGrpc => "onnx",
            Self::TrtHttp | Self::TrtGrpc => "trt",
        }
    }

    /// The default TCP port of the lane.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Jpeg => 8002,
            Self::OnnxHttp => 8010,
            Self::OnnxGrpc => 8011,
            Self::TrtHttp => 8020,
            Self::TrtGrpc => 8021,
        }
    }
}

/// Default port of the onnx service's metrics.
pub const ONNX_METRICS_PORT: u16 = 8012;
/// Default port of the trt service's metrics.
pub const TRT_METRICS_PORT: u16 = 8022;

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
