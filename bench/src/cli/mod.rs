//! The command line: flags, one file for each command, progress on stderr.
//!
//! [`command`] lists the commands. Flags that commands share are in [`lane_args`], [`load_args`], [`data_args`] and
//! [`limit_args`]; flags of `run` alone are in [`plan_args`] and [`scenario`]; flags of another command are in its file.

pub mod command;
pub mod compare;
pub mod data_args;
pub mod demo;
pub mod explain;
pub mod fail_on;
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
pub mod scenario;
pub mod selftest;
pub mod setup;
pub mod slo;
