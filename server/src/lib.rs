//! server
pub mod backend;
pub mod kserve;
pub mod metrics;
pub mod repository;
pub mod service;
pub mod settings;
pub mod status;
pub mod transport;

/// Name of the server, as `GET /v2` and `ServerMetadata` tell it.
pub const SERVER_NAME: &str = "quintet";

/// Version of the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
