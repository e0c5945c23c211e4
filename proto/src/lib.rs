//! The wire.
#[cfg(feature = "wire")]
#[allow(missing_docs, clippy::all)]
pub mod inference { tonic::include_proto!("inference"); }
