//! The inputs and the outcome of a run.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::{
    client::{payload::Payload, target::Target},
    model::{report::Report, settings::Settings},
    run::{journal::Unfinished, progress::Progress},
};

/// The inputs of a run.
pub struct Run<'a> {
    /// What to measure.
    pub settings: Settings,
    /// The lanes.
    pub targets: Vec<Target>,
    /// What to send.
    pub payload: Payload,
    /// Folder in which the run's folder is made.
    pub output: PathBuf,
    /// Receives the run's events.
    pub progress: &'a dyn Progress,
    /// The stopped run to continue, if any.
    pub resume: Option<Unfinished>,
    /// Stops the run.
    pub stop: Stop,
}

/// Stops a run in one of two ways; what was measured is kept.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Stops at once and abandons requests in flight.
    pub now: CancellationToken,
    /// Stops after the current block or window; cancelled together with `now`.
    pub soon: CancellationToken,
}

impl From<CancellationToken> for Stop {
    fn from(now: CancellationToken) -> Self {
        Self { soon: now.child_token(), now }
    }
}

/// A finished or interrupted run.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Its folder.
    pub folder: PathBuf,
}
