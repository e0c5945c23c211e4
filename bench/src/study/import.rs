//! Reads files of results: our `report.json` and the raw JSON of the study.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    analysis::summary::{Bytes, Cell, Form, Server, Summary},
    model::{
        lane::Lane,
        load::Load,
        report::{Report, SCHEMA},
    },
};

/// Largest file that is read: a report with every sample of a long run stays far below.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file of results.
#[derive(Clone, Debug)]
pub enum Results {
    /// The study's raw data.
    Study(Summary),
    /// One of our reports, under the file's name.
    Report(String, Box<Report>),
}

/// Why a file of results cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("{0} is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge(PathBuf),
    /// It is not JSON, or lacks fields of its format.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// It is JSON of another kind.
    #[error(
        "{0} is neither a report ({SCHEMA}) nor the study's raw data (`backends`); use a report.json written by \
         `quintet-bench run`"
    )]
    Unknown(PathBuf),
    /// It is the study's data with an unknown name.
    #[error("{path}: `{name}` is not a {kind}")]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// What it should have been.
        kind: &'static str,
    },
}

impl Results {
    /// Reads a file in either format.
    ///
    /// # Errors
    /// [`ImportError`], with the file's name.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let read_error = |source| ImportError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read_error)?.len() > MAX_FILE_BYTES {
            return Err(ImportError::TooLarge(path.to_owned()));
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read_error)?)
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// As [`Results::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ImportError> {
        let json_error = |source| ImportError::Json { path: path.to_owned(), source };
        let name = name_of(path);
        let value: Value = serde_json::from_str(text).map_err(json_error)?;
        if value.get("schema").and_then(Value::as_str) == Some(SCHEMA) {
            drop(value);
            return Ok(Self::Report(name, Box::new(serde_json::from_str(text).map_err(json_error)?)));
        }
        if value.get("backends").is_none() {
            return Err(ImportError::Unknown(path.to_owned()));
        }
        let study: Study = serde_json::from_value(value).map_err(json_error)?;
        Ok(Self::Study(study.summary(name, path)?))
    }

    /// The figures without samples.
    pub fn summary(&self) -> Summary {
        match self {
            Self::Study(summary) => summary.clone(),
            Self::Report(name, report) => Summary::from_report(name, report),
        }
    }
}

/// The name of the file, or of its folder for `report.json`.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).filter(|_| stem == "report");
    folder.unwrap_or(stem).to_string_lossy().into_owned()
}

/// The study's raw JSON.
#[derive(Deserialize)]
struct Study {
    timestamp: String,
    config: Config,
    backends: BTreeMap<String, Backend>,
}

#[derive(Deserialize)]
struct Config {
    iterations: usize,
}

/// `serial.batch_N` and `concurrent.conc_N`.
#[derive(Deserialize)]
struct Backend {
    #[serde(default)]
    serial: BTreeMap<String, StudyCell>,
    #[serde(default)]
    concurrent: BTreeMap<String, StudyCell>,
}

#[derive(Deserialize)]
struct StudyCell {
    n: u64,
    p50_ms: f64,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    mean_ms: f64,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
    imgs_per_sec: f64,
    /// KiB of the tensor.
    payload_kb: Option<f64>,
    /// A constant times the batch size.
    payload_approx_kb: Option<f64>,
    server_metrics: Option<StudyServer>,
}

#[derive(Deserialize)]
struct StudyServer {
    gpu_compute_ms: f64,
    server_request_ms: f64,
    request_count: f64,
}

impl Study {
    fn summary(self, name: String, path: &Path) -> Result<Summary, ImportError> {
        let unknown = |name: &str, kind| ImportError::Name { path: path.to_owned(), name: name.to_owned(), kind };
        let number = |key: &str, prefix: &str, kind| {
            let number = key.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok()).filter(|&n| n > 0);
            number.ok_or_else(|| unknown(key, kind))
        };
        let mut cells = Vec::new();
        for (backend, loads) in &self.backends {
            let lane = lane(backend).ok_or_else(|| unknown(backend, "lane of the study"))?;
            for (key, cell) in &loads.serial {
                let batch = number(key, "batch_", "batch size (batch_N)")?;
                cells.push(cell.read(lane, Load::Serial { batch }));
            }
            for (key, cell) in &loads.concurrent {
                let concurrency = number(key, "conc_", "concurrency (conc_N)")?;
                cells.push(cell.read(lane, Load::Concurrent { concurrency, batch: 1 }));
            }
        }
        cells.sort_by_key(|cell| (cell.lane, cell.load));
        let Self { timestamp, config, .. } = self;
        let iterations = config.iterations;
        Ok(Summary {
            name,
            form: Form::Study,
            started_at: timestamp,
            iterations,
            link: None,
            servers: Vec::new(),
            cells,
        })
    }
}

/// The lane for the study's name.
fn lane(backend: &str) -> Option<Lane> {
    Some(match backend {
        "pytorch" => Lane::JPEG,
        "onnx_http" => Lane::ONNX_HTTP,
        "onnx_grpc" => Lane::ONNX_GRPC,
        "trt_http" => Lane::TRT_HTTP,
        "trt_grpc" => Lane::TRT_GRPC,
        _ => return None,
    })
}

impl StudyCell {
    fn read(&self, lane: Lane, load: Load) -> Cell {
        let request = match (self.payload_kb, self.payload_approx_kb) {
            (Some(kib), _) => Bytes::Exact((kib * 1024.0).round() as u64),
            (None, Some(kb)) => Bytes::Nominal((kb * 1000.0).round() as u64),
            (None, None) => Bytes::Unknown,
        };
        Cell {
            lane,
            load,
            samples: self.n,
            p50_ms: self.p50_ms,
            p50_interval: None,
            p95_ms: self.p95_ms,
            p99_ms: self.p99_ms,
            mean_ms: self.mean_ms,
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            images_per_s: self.imgs_per_sec,
            images_interval: None,
            request,
            response_bytes: None,
            connection: None,
            tls: None,
            connections: None,
            server: self.server_metrics.as_ref().map(|server| Server {
                requests: server.request_count,
                request_ms: server.server_request_ms,
                compute_ms: server.gpu_compute_ms,
                queue_ms: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Results, ImportError> {
        Results::parse(Path::new("some/file.json"), text)
    }

    #[test]
    fn the_studys_json_is_parsed() {
        let text = r#"{"timestamp": "2026-02-20T22:46:52", "config": {"iterations": 30}, "backends": {"trt_grpc": {
            "serial": {"batch_4": {"n": 30, "p50_ms": 2.0, "mean_ms": 3.0, "imgs_per_sec": 2000.0, "payload_kb": 2352.0,
                "server_metrics": {"gpu_compute_ms": 1.0, "server_request_ms": 1.5, "request_count": 35.0}}},
            "concurrent": {"conc_8": {"n": 60, "p50_ms": 2.0, "mean_ms": 3.0, "imgs_per_sec": 9.0}}}}}"#;
        let summary = parse(text).unwrap().summary();
        assert_eq!((summary.name.as_str(), summary.form, summary.iterations), ("file", Form::Study, 30));
        let cell = summary.cell(Lane::TRT_GRPC, Load::Serial { batch: 4 }).unwrap();
        assert_eq!((cell.request, cell.server.unwrap().waiting_ms()), (Bytes::Exact(4 * 602_112), 0.5));
        assert_eq!(summary.concurrent(Lane::TRT_GRPC)[0].request, Bytes::Unknown);
    }

    #[test]
    fn a_report_is_named_after_its_folder() {
        let names = ["results/20261125T020000Z/report.json", "report.json", "seed/step7.json"];
        assert_eq!(names.map(|path| name_of(Path::new(path))), ["20261125T020000Z", "report", "step7"]);
    }

    #[test]
    fn errors_name_the_file_and_the_problem() {
        let study = |backend: &str, key: &str| {
            format!(
                r#"{{"timestamp": "", "config": {{"iterations": 1}}, "backends": {{"{backend}": {{"serial": {{"{key}":
                {{"n": 1, "p50_ms": 1, "mean_ms": 1, "imgs_per_sec": 1}}}}}}}}}}"#
            )
        };
        let messages: Vec<_> = [
            "{",
            "[]",
            r#"{"schema": "quintet-report/1"}"#,
            r#"{"backends": {}}"#,
            &study("tensorflow", "batch_1"),
            &study("pytorch", "batch_0"),
        ]
        .map(|text| parse(text).unwrap_err().to_string())
        .to_vec();
        insta::assert_snapshot!(messages.join("\n"));
    }
}
