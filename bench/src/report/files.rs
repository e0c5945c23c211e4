//! A report's folder: what is written into it, and how it is read back.

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

/// All forms that a run writes.
pub fn exporters() -> [&'static dyn Exporter; 4] {
    [&Json, &Markdown, &Csv, &Html]
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is not a report.
    #[error("{path} is not a report of the form {SCHEMA}: {reason}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its samples cannot be used.
    #[error("{path}: {source}")]
    Samples {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: SamplesError,
    },
}

impl Report {
    /// All files of the report: names and contents.
    ///
    /// # Errors
    /// When it cannot be expressed in one of the forms.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, ExportError> {
        let mut files = vec![(samples::FILE, samples::pack(self)?)];
        for exporter in exporters() {
            files.push((exporter.file_name(), exporter.export(self)?.into_bytes()));
        }
        Ok(files)
    }

    /// Reads `report.json`, or the one in a folder, with its samples where their file stands beside it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let path = if path.is_dir() { path.join(Json.file_name()) } else { path.to_owned() };
        let text = fs::read(&path).map_err(|source| ReadError::File { path: path.clone(), source })?;
        let form = |reason| ReadError::Form { path: path.clone(), reason };
        let mut report: Self = serde_json::from_slice(&text).map_err(|error| form(error.to_string()))?;
        if report.schema != SCHEMA {
            return Err(form(format!("it says `{}`", report.schema)));
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
