//! Drives the five lanes side by side and reports where the time of a request goes.
//!
//! Every folder is a layer and imports only from those below it:
//!
//! ```text
//! cli                    arguments, one file a command, progress
//! selftest, floor        users of the layers beside `run`
//! run                    preflight, plan, loops that send and time, journal, search for a rate
//! study                  the study's raw data, its tables, its hypotheses
//! report                 tables, HTML, SVG, Markdown, CSV, JSON, samples
//! link                   a link, emulated or measured
//! analysis               statistics, pairing, waterfall, claims, checks, comparisons: pure functions of `model`
//! server                 what a server says of itself: counters
//! client                 connections, protocols, payload
//! model                  plain data that all layers share
//! ```

pub mod analysis;
pub mod cli;
pub mod client;
#[cfg(test)]
mod fixture;
pub mod floor;
pub mod link;
pub mod model;
pub mod report;
pub mod run;
pub mod selftest;
pub mod server;
pub mod study;
