//! Commands that work on results or on a link; `run` is in [`crate::cli`].

pub mod compare;
pub mod link;
pub mod report;
