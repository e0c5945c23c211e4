//! The command line: arguments, one file a command, progress on stderr.

pub mod args;
pub mod compare;
pub mod floor;
pub mod link;
pub mod peers;
pub mod progress;
pub mod report;
pub mod run;
pub mod selftest;
pub mod slo;
