//! What each command does.

pub mod compare;
pub mod floor;
pub mod link;
pub mod report;
pub mod run;
pub mod selftest;
pub mod slo;
