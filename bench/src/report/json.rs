//! Writes `report.json`: the report without the raw samples, which are in a file beside it.

use crate::{
    model::report::Report,
    report::exporter::{ExportError, Exporter},
};

/// The JSON format.
pub struct Json;

impl Exporter for Json {
    fn file_name(&self) -> &'static str {
        "report.json"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        Ok(serde_json::to_string(report)?)
    }
}
