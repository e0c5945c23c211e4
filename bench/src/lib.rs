//! Drives the five lanes side by side and reports where the time of a request goes.
//!
//! Every folder is a layer and imports only from those in lower rows:
//!
//! ```text
//! cli                    arguments, one file for each command, progress
//! selftest               proofs against servers whose behaviour is known
//! run, floor             preflight, plan, loops that send and time, journal, SLO search, scenarios; the bare socket
//! study                  the study's raw data, its tables, its hypotheses
//! report                 tables, HTML, SVG, Markdown, CSV, JSON, samples
//! server, link           what a server reports of itself; the emulated and the measured link
//! analysis, client       statistics, pairing, waterfall, claims, checks; connections, protocols, payload
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
