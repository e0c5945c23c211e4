//! One run: preflight, plan, loops that send and time, journal, search for a rate.

pub mod cpu;
pub mod environment;
pub mod journal;
pub mod measure;
pub mod open;
pub mod plan;
pub mod preflight;
pub mod session;
pub mod slo;
