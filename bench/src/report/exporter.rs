//! The trait of the forms that a report is written in.

use crate::{model::report::Report, report::samples};

/// Writes a report in one form.
pub trait Exporter {
    /// Name of the file, e.g. `report.md`.
    fn file_name(&self) -> &'static str;

    /// The file's contents.
    ///
    /// # Errors
    /// When the report cannot be expressed in the form.
    fn export(&self, report: &Report) -> Result<String, ExportError>;
}

/// A report that cannot be expressed in a form.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Not as JSON.
    #[error("cannot write the report: {0}")]
    Json(#[from] serde_json::Error),
    /// Not as CSV.
    #[error("cannot write the report: {0}")]
    Csv(#[from] ::csv::Error),
    /// Not its samples.
    #[error("cannot write the report: {0}")]
    Samples(#[from] samples::SamplesError),
}
