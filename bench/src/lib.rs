//! Drives the five lanes side by side and reports where the time of a request goes.
//!
//! ```text
//! settings -> plan -> run -> measure (client, record) -> report (stats, warnings) -> exporters
//! ```
//! * [`settings`], [`plan`], [`target`]: what is measured, in which order, where;
//! * [`payload`], [`client`]: what is sent, and how each protocol sends it;
//! * [`measure`], [`record`], [`counters`]: what is seen by the client and by the server;
//! * [`stats`], [`compare`], [`warnings`]: what it means (pure functions);
//! * [`report`], [`environment`], [`progress`]: how it is told;
//! * [`preflight`], [`run`], [`cli`]: the order of events.

pub mod cli;
pub mod client;
pub mod compare;
pub mod counters;
pub mod encoding;
pub mod environment;
pub mod measure;
pub mod open;
pub mod pairing;
pub mod payload;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod selftest;
pub mod settings;
pub mod slo;
pub mod stats;
pub mod target;
pub mod warnings;
