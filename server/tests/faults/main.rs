//! Faults on purpose: connections that are slow or break, clients that leave, a backend that fails and panics, too
//! little memory, a process that is stopped for a while, a full disk.
//!
//! `QUINTET_FAULT_SECONDS` is how long the rounds go on (2 if it is not set). A failure prints the seed of its round;
//! `QUINTET_FAULT_SEED` begins with that one.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // Helpers of tests may, too.

mod backend;
mod client;
mod disk;
mod process;
mod rounds;
mod stream;
