//! `quintet-bench floor`: compares servers with a bare socket that carries the same bytes, in one run.
//!
//! ```text
//! args -> cells (payload × connections) -> rounds -> lanes in random order -> windows -> ratios
//! ```
//! The model should do almost nothing (identity), so that the rest is the transport. The clients are minimal, and each
//! connection has a thread, for the floor and for the servers.

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
