//! The trait of the formats that a report is written in.

use crate::{model::report::Report, report::samples};

/// Writes a report in one format.
pub trait Exporter {
    /// Name of the file, e.g. `report.md`.
    fn file_name(&self) -> &'static str;

    /// The file's contents.
    ///
    /// # Errors
    /// If the report cannot be written in the format.
    fn export(&self, report: &Report) -> Result<String, ExportError>;
}

/// Why a report cannot be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// As JSON.
    #[error("cannot write the report: {0}")]
    Json(#[from] serde_json::Error),
    /// As CSV.
    #[error("cannot write the report: {0}")]
    Csv(#[from] ::csv::Error),
    /// Its samples.
    #[error("cannot write the report: {0}")]
    Samples(#[from] samples::SamplesError),
}
