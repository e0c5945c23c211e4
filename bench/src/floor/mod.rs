//! `quintet-bench floor`: servers against a bare socket that carries the same bytes, in one run.
//!
//! ```text
//! args -> cells (payload × connections) -> rounds -> lanes in random order -> windows -> ratios
//! ```
//! The model should do next to nothing (identity): what is left is the transport's. Clients are as light
//! as can be, and each connection has a thread, with the floor as with the servers.

mod answer;
pub mod args;
mod exchange;
mod grpc;
mod http;
mod http2;
mod in_process;
pub mod measure;
pub mod payload;
mod raw;
pub mod report;
mod shared_memory;
pub mod target;
