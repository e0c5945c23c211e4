//! Settings: flags over `QUINTET_*` variables over the TOML file over defaults.

#[macro_use]
mod declare;
mod access;
mod boolean;
mod common;
mod endpoint;
mod ep_library;
mod guard;
mod log_format;
mod memory;
mod suite;

pub use self::{
    access::{Access, AccessFlags},
    boolean::boolean,
    common::{Common, CommonFlags, or_cores},
    endpoint::{Endpoint, NotAnEndpoint},
    ep_library::{EpLibrary, NotALibrary},
    log_format::LogFormat,
    memory::{Memory, MemoryFlags},
    suite::{Flags, Settings},
};
