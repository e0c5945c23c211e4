//! Serves the five lanes: transports in front of one engine, ONNX Runtime behind it.
//!
//! ```text
//! transport (kserve_http, kserve_grpc, images) -> kserve -> engine's queue -> backend -> the same way back
//! ```
//! * [`transport`]: sockets and protocols; they share [`status`] and know nothing of each other;
//! * [`kserve`]: what a request asks for, whichever transport carries it;
//! * [`catalog`]: the models in service; [`service`]: what the transports of a service share;
//! * [`repository`]: Triton's model repository on disk; [`backend`]: what runs a model;
//! * [`observe`]: metrics and logs; [`process`]: command line and settings, and a process from start to end.

pub mod backend;
pub mod catalog;
mod identity;
pub mod kserve;
pub mod observe;
pub mod process;
mod protobuf_json;
pub mod repository;
pub mod service;
pub mod status;
pub mod transport;

pub use identity::{SERVER_NAME, VERSION};
