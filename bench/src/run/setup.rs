//! Inputs and outcome of a run.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::{
    client::{payload::Payload, target::Target},
    model::{report::Report, settings::Settings},
    run::{journal::Unfinished, progress::Progress},
};

/// What a run needs.
pub struct Run<'a> {
    /// What to measure.
    pub settings: Settings,
    /// The lanes.
    pub targets: Vec<Target>,
    /// What to send.
    pub payload: Payload,
    /// Folder that gets a folder for this run.
    pub output: PathBuf,
    /// Receives the run's events.
    pub progress: &'a dyn Progress,
    /// The run that goes on, if it is none of its own.
    pub resume: Option<Unfinished>,
    /// Stops the run, and how.
    pub stop: Stop,
}

/// Two ways to stop a run; what was measured is kept.
#[derive(Clone, Debug)]
pub struct Stop {
    /// At once: requests in flight are given up.
    pub now: CancellationToken,
    /// After the current block or window; also when it is to stop at once.
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
