//! The client side of each protocol: connections, requests, replies, payload.
//!
//! ```text
//! clients -> route -> connection (HTTP) -> dial -> tls, wire (bytes counted)
//! prepare -> jpeg, http, grpc (the protocols) <- payload (images), inputs (other tensors), region (shared memory)
//! ```

pub mod call;
pub mod clients;
pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod grpc;
pub mod headers;
pub mod http;
pub mod inference;
pub mod inputs;
pub mod jpeg;
mod npy;
pub mod outputs;
pub mod payload;
pub mod placement;
pub mod prepare;
pub mod region;
pub mod route;
pub mod stream;
pub mod target;
pub mod tcp_info;
pub mod tensor;
pub mod tls;
pub mod token;
pub mod wire;
