//! Errors of a run.

use std::{io, path::PathBuf};

use hdrhistogram::CreationError;

use crate::{
    client::call::CallError,
    model::lane::Lane,
    report::exporter::ExportError,
    run::{
        journal::{JournalError, ResumeError},
        preflight::LaneError,
    },
};

/// Why a run failed. What was measured before may be in its folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Lanes that cannot be measured.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lanes(Vec<LaneError>),
    /// A request cannot be built.
    #[error("cannot build the requests of lane {lane}: {reason}")]
    Request {
        /// The lane.
        lane: Lane,
        /// What is wrong.
        reason: CallError,
    },
    /// The report cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No rate can be searched for.
    #[error("the search for a rate: {0}")]
    Rate(String),
    /// Shared memory cannot be set up with a lane's server.
    #[error("lane {lane}, --transport shm: {reason}")]
    Shared {
        /// The lane.
        lane: Lane,
        /// What is wrong.
        reason: String,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The run cannot be resumed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The report cannot be rendered.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A histogram cannot be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[from] CreationError),
}
