//! The files of a report: their contents, and how a report is read from them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    model::report::{Report, SCHEMA},
    report::{
        csv::Csv,
        exporter::{ExportError, Exporter},
        html::Html,
        json::Json,
        markdown::Markdown,
        samples::{self, SamplesError},
    },
};

/// All formats that a run writes.
pub fn exporters() -> [&'static dyn Exporter; 4] {
    [&Json, &Markdown, &Csv, &Html]
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is not a report.
    #[error("{path} is not a report in the format {SCHEMA}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its samples cannot be used.
    #[error("{path}: {source}")]
    Samples {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SamplesError,
    },
}

impl Report {
    /// All files of the report: names and contents.
    ///
    /// # Errors
    /// If it cannot be written in one of the formats.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, ExportError> {
        let mut files = vec![(samples::FILE, samples::pack(self)?)];
        for exporter in exporters() {
            files.push((exporter.file_name(), exporter.export(self)?.into_bytes()));
        }
        Ok(files)
    }

    /// Reads `report.json`, or the one in a folder, with its samples if their file is beside it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let path = if path.is_dir() { path.join(Json.file_name()) } else { path.to_owned() };
        let text = fs::read(&path).map_err(|source| ReadError::File { path: path.clone(), source })?;
        let wrong_format = |reason| ReadError::Format { path: path.clone(), reason };
        let mut report: Self = serde_json::from_slice(&text).map_err(|error| wrong_format(error.to_string()))?;
        if report.schema != SCHEMA {
            return Err(wrong_format(format!("its schema is `{}`", report.schema)));
        }
        let beside = path.with_file_name(samples::FILE);
        match fs::read(&beside) {
            Ok(bytes) => {
                samples::unpack(&bytes, &mut report).map_err(|source| ReadError::Samples { path: beside, source })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ReadError::File { path: beside, source }),
        }
        Ok(report)
    }
}
