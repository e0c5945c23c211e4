//! A table without markup, and the formats of its values.

use quintet_proto::lanes::Lane as Kind;

use crate::model::{estimate::Estimate, lane::Lane};

/// Shown where nothing was measured.
pub(crate) const NOTHING: &str = "–";

/// A table in plain text.
pub(crate) struct Table {
    /// Its title.
    pub title: String,
    /// Head of the first column.
    pub first: &'static str,
    /// Heads of the other columns.
    pub columns: Vec<String>,
    /// Rows: the first column, and the others.
    pub rows: Vec<(String, Vec<String>)>,
    /// Text below the table.
    pub note: Option<String>,
}

impl Table {
    pub(crate) fn new(
        title: &str,
        first: &'static str,
        columns: Vec<String>,
        rows: Vec<(String, Vec<String>)>,
    ) -> Self {
        Self { title: title.into(), first, columns, rows, note: None }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// A lane's name in tables.
pub(crate) fn label(lane: Lane) -> String {
    let name = match lane.kind {
        Kind::Jpeg => "JPEG HTTP",
        Kind::OnnxHttp => "ONNX HTTP",
        Kind::OnnxGrpc => "ONNX gRPC",
        Kind::TrtHttp => "TRT HTTP",
        Kind::TrtGrpc => "TRT gRPC",
    };
    lane.peer.map_or(name.to_owned(), |peer| format!("{peer} {name}"))
}

/// A value and its interval.
pub(crate) fn number(estimate: Estimate, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}–{:.digits$})", estimate.value, estimate.low, estimate.high)
}

/// A value with its sign, and its interval.
pub(crate) fn signed(estimate: Estimate, digits: usize) -> String {
    let minus = |value: f64| format!("{value:+.digits$}").replace('-', "−");
    format!("{} ({} to {})", minus(estimate.value), minus(estimate.low), minus(estimate.high))
}

/// A time with about three digits.
pub(crate) fn milliseconds(ms: f64) -> String {
    let digits = match ms {
        ms if ms >= 100.0 => 0,
        ms if ms >= 10.0 => 1,
        _ => 2,
    };
    format!("{ms:.digits$}")
}
