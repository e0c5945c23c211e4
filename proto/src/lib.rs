//! The wire: KServe v2 with Triton's extensions, shared by the server and its clients.
//!
//! * [`DataType`], its [`Visitor`] and [`elements`]: the vocabulary, free of any protocol library;
//! * [`inference`]: the protobuf messages and the gRPC service (feature `wire`);
//! * [`rest`]: the JSON messages of the HTTP protocol (feature `wire`);
//! * [`lanes`]: the five lanes, their names and default ports.

mod datatype;
pub mod elements;
pub mod lanes;
#[cfg(feature = "wire")]
pub mod rest;
mod visitor;

pub use datatype::DataType;
pub use visitor::{Float, Integer, Number, Visitor};

/// Messages and services of the protobuf package `inference`, as Triton declares them.
#[cfg(feature = "wire")]
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, clippy::excessive_nesting)]
pub mod inference {
    tonic::include_proto!("inference");

    /// The encoded `FileDescriptorSet` of this package: for gRPC reflection and for text and JSON forms.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// HTTP header that gives the length of the JSON part of a body with binary tensors.
pub const INFERENCE_HEADER_CONTENT_LENGTH: &str = "inference-header-content-length";

/// HTTP header, and gRPC trailing metadata key, that carries a request's stage times.
///
/// The syntax is that of the W3C's *Server Timing*: `queue;dur=0.041, infer;dur=18.2`, in milliseconds.
pub const SERVER_TIMING: &str = "server-timing";

/// HTTP header, and gRPC metadata key, of responses about a model: the provider that really runs it.
///
/// It is a header because the bodies are exactly Triton's.
pub const EFFECTIVE_PROVIDER: &str = "quintet-effective-provider";

/// HTTP header, and gRPC metadata key, of a model's metadata: that its input also takes encoded images, and what is done
/// with them. Triton's clients see the metadata that they know.
pub const ENCODED_IMAGES: &str = "quintet-encoded-images";

/// HTTP header, and gRPC metadata key: the precision of the computation if it is lower than the model's own.
pub const PRECISION: &str = "quintet-precision";

/// HTTP header, and gRPC metadata key: the GPU that the model runs on, e.g. `NVIDIA H200`.
pub const GPU: &str = "quintet-gpu";

/// HTTP header, and gRPC metadata key: the CPU threads that run one operator of the model together.
pub const THREADS: &str = "quintet-threads";

/// HTTP header, and gRPC metadata key: the source of the model's weights as its file states it, `seed 0` if they are random.
pub const WEIGHTS: &str = "quintet-weights";

/// HTTP header, and gRPC metadata key: the server and the libraries that run the model, as RFC 9110's `Server` lists
/// products: `quintet/0.1.0+0123456789ab onnxruntime/1.24.1`. Build metadata is the commit.
pub const SOFTWARE: &str = "quintet-software";

/// gRPC metadata key of `ServerReady`: why the server is not ready. Over HTTP, the body says it.
pub const NOT_READY: &str = "quintet-not-ready";

/// HTTP header, and gRPC metadata key: why a requested provider does not run the model.
pub const PROVIDER_REASON: &str = "quintet-provider-reason";
