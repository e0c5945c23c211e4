//! The process: command line and settings; bind, load, serve and drain; the health check.

pub mod access;
pub mod budget;
pub mod check;
pub mod cli;
mod exit;
mod files;
#[cfg(test)]
mod limits;
pub mod memory;
#[cfg(test)]
mod page;
pub mod serve;
pub mod settings;
pub mod suite;
pub mod triton;
