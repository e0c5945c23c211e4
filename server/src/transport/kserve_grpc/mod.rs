//! KServe v2 over gRPC. `ModelInfer` is read from HTTP/2's frames directly; tonic serves the other methods, health and
//! reflection.

mod charged;
mod contents;
mod fields;
mod frame;
mod guarded;
mod health;
mod infer;
mod options;
mod reply;
mod repository;
mod request;
mod rpc;
mod serve;
mod settings;
mod stream;

pub use self::{
    infer::{Incoming, Refusal},
    options::{MAX_STREAM_REQUESTS, Options},
    serve::{serve, serve_connection},
};
