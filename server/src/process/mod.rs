//! What runs: the command line, its settings, and a process from bound listeners to a drained end.

pub mod check;
pub mod cli;
pub mod memory;
pub mod serve;
pub mod settings;
pub mod suite;
pub mod triton;
