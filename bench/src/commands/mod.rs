//! Commands besides `run`, which is in [`crate::cli`].

pub mod compare;
pub mod floor;
pub mod link;
pub mod report;
pub mod selftest;
pub mod slo;
