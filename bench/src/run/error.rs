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

/// Why there is no report, or only what the folder holds.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Lanes that cannot be measured.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lanes(Vec<LaneError>),
    /// A request cannot be made.
    #[error("cannot make the requests of lane {lane}: {reason}")]
    Request {
        /// The lane.
        lane: Lane,
        /// What is wrong.
        reason: CallError,
    },
    /// The report cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no shared memory with a lane's server.
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
    /// The run cannot go on.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The report cannot be expressed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A histogram cannot be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[from] CreationError),
}
