//! The server's name and version, as every protocol states them.

/// Name of the server in `GET /v2` and `ServerMetadata`.
pub const SERVER_NAME: &str = "quintet";

/// Version of the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
