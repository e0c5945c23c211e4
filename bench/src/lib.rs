//! Drives the five lanes side by side and reports where the time of a request goes.
//!
//! ```text
//! settings -> plan -> run -> measure (client, record) -> report (stats, warnings) -> exporters
//! ```
//! * [`settings`], [`plan`], [`lane`], [`target`], [`transport`], [`against`]: what is measured, in which order, where;
//! * [`payload`], [`client`]: what is sent, and how each protocol sends it;
//! * [`measure`], [`record`], [`scrape`], [`counters`]: what is seen by the client and by the server;
//! * [`stats`], [`pairing`], [`waterfall`], [`compare`], [`hypotheses`], [`warnings`]: what it means (pure functions);
//! * [`report`], [`environment`], [`progress`]: how it is told;
//! * [`import`], [`summary`], [`suspicions`]: what results of any form, the study's included, have in common;
//! * [`link`]: the way to the server, emulated or measured;
//! * [`across`]: what several runs say beside each other;
//! * [`explain`]: what round trips and bytes alone make one expect;
//! * [`floor`]: a measurement of its own, servers against a bare socket;
//! * [`preflight`], [`run`], [`journal`], [`cli`], [`commands`]: the order of events.

pub mod across;
pub mod against;
pub mod cli;
pub mod client;
pub mod commands;
pub mod compare;
pub mod counters;
pub mod cpu;
pub mod encoding;
pub mod environment;
pub mod explain;
pub mod floor;
pub mod hypotheses;
pub mod import;
pub mod journal;
pub mod lane;
pub mod link;
pub mod measure;
pub mod metric;
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
pub mod scrape;
pub mod selftest;
pub mod settings;
pub mod slo;
pub mod stats;
pub mod summary;
pub mod suspicions;
pub mod target;
pub mod transport;
pub mod warnings;
pub mod waterfall;
