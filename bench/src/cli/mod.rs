//! The command line: flags, one file a command, progress on stderr.

pub mod command;
pub mod compare;
pub mod floor;
pub mod lane_args;
pub mod limit_args;
pub mod link;
pub mod load_args;
pub mod numbers;
pub mod output;
pub mod peers;
pub mod plan_args;
pub mod progress;
pub mod report;
pub mod run;
pub mod selftest;
pub mod setup;
pub mod slo;
