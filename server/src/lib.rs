//! server
pub mod backend;
pub mod status;
