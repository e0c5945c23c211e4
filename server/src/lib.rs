//! server
pub mod backend;
pub mod repository;
pub mod status;
