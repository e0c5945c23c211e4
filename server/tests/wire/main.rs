//! KServe over gRPC and HTTP on real sockets, with scripted models.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // Helpers of tests may, too.

mod access;
mod alias;
mod compression;
mod confined;
mod disk;
mod ensemble;
mod errors;
mod follow;
mod gpu_fault;
mod guard;
mod images;
mod images_on_lanes;
mod infer;
mod life;
mod loading;
mod memory;
mod optional;
mod resting;
mod stream;
mod support;
mod tls;
mod trace;
mod uds;
mod values;
