//! Settings: flags over `QUINTET_*` variables over the TOML file over defaults.

#[macro_use]
mod declare;
mod access;
mod boolean;
mod common;
mod endpoint;
mod ep_library;
mod gpu_fault;
mod guard;
mod images;
mod intra_op_spin;
mod jpeg_decoding;
mod log_format;
mod memory;
mod model_parameter;
mod object_stores;
mod suite;

pub use self::{
    access::{Access, AccessFlags},
    boolean::boolean,
    common::{Common, CommonFlags},
    endpoint::{Endpoint, NotAnEndpoint},
    ep_library::{EpLibrary, NotALibrary},
    gpu_fault::OnGpuFault,
    images::{ImageFlags, Images, or_cores},
    intra_op_spin::IntraOpSpin,
    jpeg_decoding::JpegDecoding,
    log_format::LogFormat,
    memory::{Memory, MemoryFlags},
    model_parameter::{ModelParameter, NotAParameter},
    object_stores::{ObjectStoreFlags, ObjectStores},
    suite::{Flags, Settings},
};
