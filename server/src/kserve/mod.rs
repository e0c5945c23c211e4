//! KServe v2 without its transports: what a request asks for, and how it is answered.

mod call;
mod caller;
pub mod classify;
pub mod ensemble;
mod images;
mod infer;
pub mod message;
mod models;
pub mod parameters;
pub mod shared_memory;
pub mod statistics;
pub mod trace;

pub use self::{
    call::{Answer, AnsweredOutput, Call, OwnedCall, WantedOutput},
    images::describe_images,
    infer::infer,
    models::{describe_tensors, platform, resolve},
};
