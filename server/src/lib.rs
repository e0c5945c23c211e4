//! The server of the five lanes: transports, KServe, the model repository and the backends around one engine.
//!
//! ```text
//! transport (kserve_http, kserve_grpc, images) -> kserve -> engine's queue -> backend, and back
//! ```
//! * [`transport`]: sockets and protocols, which share [`status`] and do not depend on each other;
//! * [`kserve`]: what a request asks for, independent of its transport;
//! * [`image_input`]: encoded images to the input of a model;
//! * [`catalog`]: the models in service; [`service`]: what the transports of a service share;
//! * [`repository`]: Triton's model repository on disk; [`backend`]: runs models;
//! * [`page`]: the page for browsers;
//! * [`observe`]: metrics and logs; [`process`]: command line, settings, and the process from start to end.

pub mod backend;
pub mod catalog;
mod identity;
pub mod image_input;
pub mod image_output;
pub mod kserve;
pub mod observe;
pub mod page;
pub mod process;
mod protobuf_json;
pub mod repository;
pub mod service;
pub mod status;
pub mod transport;

pub use identity::{SERVER_NAME, VERSION};
