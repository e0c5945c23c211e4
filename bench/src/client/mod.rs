//! Clients: how a lane is asked, and how its answer is read.
//!
//! [`dial`] opens a stream, [`tls`] speaks TLS on it, [`wire`] counts what goes over it, [`connection`] speaks HTTP on it, [`policy`]
//! says whose it is; [`shared`] has tensors in memory; [`jpeg`], [`http`] and [`grpc`] know the protocols.

pub mod call;
pub mod clients;
pub mod connection;
pub mod dial;
pub mod embedding;
pub mod endpoint;
pub mod grpc;
pub mod http;
pub mod jpeg;
pub mod payload;
pub mod placement;
pub mod prepare;
pub mod region;
pub mod route;
pub mod stream;
pub mod target;
pub mod tensor;
pub mod tls;
pub mod wire;
