//! Serves the five lanes: transports in front of one engine, ONNX Runtime behind it.
//!
//! ```text
//! transport (http, grpc, jpeg) -> kserve -> engine's queue -> backend -> the same way back
//! ```
//! * [`transport`]: sockets and protocols; they share [`status`] and know nothing of each other;
//! * [`kserve`]: what a request asks for, whoever carried it;
//! * [`service`]: models with where they run, and [`metrics`];
//! * [`repository`]: Triton's model repository on disk; [`backend`]: what runs a model;
//! * [`suite`] and [`triton`]: what a process serves; [`process`]: how it begins and ends;
//!   [`cli`], [`settings`], [`logging`], [`memory`]: how it is set up; [`health`]: how it is asked.

pub mod backend;
pub mod cli;
pub mod device_metrics;
pub mod gpu;
pub mod health;
pub mod kserve;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod process;
mod protobuf_json;
pub mod repository;
pub mod service;
pub mod settings;
pub mod status;
pub mod suite;
pub mod transport;
pub mod triton;

/// Name of the server, as `GET /v2` and `ServerMetadata` tell it.
pub const SERVER_NAME: &str = "quintet";

/// Version of the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
