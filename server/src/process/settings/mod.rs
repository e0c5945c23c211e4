//! Settings: flags over `QUINTET_*` variables over the TOML file over defaults.

#[macro_use]
mod declare;
mod common;
mod endpoint;
mod log_format;
mod memory;
mod suite;

pub use self::{
    common::{Common, CommonFlags, boolean, or_cores},
    endpoint::{Endpoint, NotAnEndpoint},
    log_format::LogFormat,
    memory::{Memory, MemoryFlags},
    suite::{Flags, Settings},
};
