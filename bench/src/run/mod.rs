//! Measures: preflight, plan, loops that send and time requests, journal, search for a rate.
//!
//! ```text
//! setup -> session: begin (preflight) -> plan -> stage -> warm_up, serial, window, open_window -> journal, folder
//!          until_decided: plan -> stage, in passes, until the claims are decided
//!          slo:      begin (preflight) -> warm_up, open_window at one rate after another, the lanes in turns
//!          scenario: begin (preflight) -> warm_up, window or open_window, lane by lane
//! ```
//! [`client_cost`] measures the client at a [`null_server`], before the plan. [`lane_client`] holds what a lane keeps from cell to cell; [`progress`] is the trait that the command line implements.

pub mod accuracy;
pub mod begin;
pub mod client_cost;
pub mod clock;
pub mod cpu;
pub mod effort;
pub mod environment;
pub mod error;
pub mod folder;
pub mod journal;
pub mod lane_client;
pub mod null_server;
pub mod open_loop;
pub mod open_window;
pub mod plan;
pub mod preflight;
pub mod prepare;
pub mod progress;
pub mod request;
pub mod scenario;
pub mod serial;
pub mod session;
pub mod setup;
pub mod slo;
pub mod stage;
pub mod timed;
pub mod until_decided;
pub mod warm_up;
pub mod window;
