//! Reads and writes `samples.json.gz`: every measured request, in a file beside `report.json`.
//!
//! It is gzipped JSON, so `zcat` and `jq` read it too. Each column of a cell has integers in nanoseconds; each value
//! but the first is stored as its difference from the one before.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use crate::model::{
    cell::Cell, connection::Policy, encoding::Encoding, lane::Lane, load::Load, part::Part, report::Report,
    samples::Samples, transport::Transport,
};

/// Name of the file.
pub const FILE: &str = "samples.json.gz";
/// Version of its format.
const SCHEMA: &str = "quintet-samples/1";
/// Largest file that is read, in bytes after unpacking.
const MAX_BYTES: u64 = 4 << 30;

#[derive(Serialize, Deserialize)]
struct File {
    schema: String,
    cells: Vec<Columns>,
}

/// One cell's samples; the cells are in the report's order.
#[derive(Serialize, Deserialize)]
struct Columns {
    lane: Lane,
    load: Load,
    #[serde(default)]
    connection: Policy,
    #[serde(default)]
    payload: Option<Encoding>,
    #[serde(default)]
    transport: Transport,
    start_ns: Vec<i64>,
    latency_ns: Vec<i64>,
    #[serde(default)]
    lag_ns: Vec<i64>,
    parts_ns: BTreeMap<Part, Vec<i64>>,
}

/// Why samples cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// They cannot be packed or unpacked.
    #[error("cannot compress or decompress the samples: {0}")]
    Pack(#[from] std::io::Error),
    /// The file is not JSON of this format.
    #[error("the samples are not in the format {SCHEMA}: {0}")]
    Format(#[from] serde_json::Error),
    /// The file belongs to another report.
    #[error("the samples belong to another report: the cells differ")]
    OtherReport,
    /// The file has another version.
    #[error("the samples have the format `{0}`, not {SCHEMA}")]
    Version(String),
}

/// The samples of all cells.
///
/// # Errors
/// When they cannot be packed.
pub fn pack(report: &Report) -> Result<Vec<u8>, SamplesError> {
    let cells = report.cells.iter().map(|cell| Columns {
        lane: cell.lane,
        load: cell.load,
        connection: cell.connection,
        payload: cell.payload,
        transport: cell.transport,
        start_ns: deltas(&cell.samples.start_us),
        latency_ns: deltas(&cell.samples.latency_us),
        lag_ns: deltas(&cell.samples.lag_us),
        parts_ns: cell.samples.parts_us.iter().map(|(part, column)| (*part, deltas(column))).collect(),
    });
    let json = serde_json::to_vec(&File { schema: SCHEMA.to_owned(), cells: cells.collect() })?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&json)?;
    Ok(gzip.finish()?)
}

/// Fills in the samples of a report's cells.
///
/// # Errors
/// When the bytes are not a file of samples.
pub fn unpack(bytes: &[u8], report: &mut Report) -> Result<(), SamplesError> {
    let mut json = Vec::new();
    GzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut json)?;
    let file: File = serde_json::from_slice(&json)?;
    if file.schema != SCHEMA {
        return Err(SamplesError::Version(file.schema));
    }
    let same = |(cell, columns): (&Cell, &Columns)| {
        (cell.lane, cell.load, cell.connection, cell.payload, cell.transport)
            == (columns.lane, columns.load, columns.connection, columns.payload, columns.transport)
    };
    if file.cells.len() != report.cells.len() || !report.cells.iter().zip(&file.cells).all(same) {
        return Err(SamplesError::OtherReport);
    }
    for (cell, columns) in report.cells.iter_mut().zip(file.cells) {
        cell.samples = Samples {
            start_us: sums(&columns.start_ns),
            latency_us: sums(&columns.latency_ns),
            lag_us: sums(&columns.lag_ns),
            parts_us: columns.parts_ns.iter().map(|(part, column)| (*part, sums(column))).collect(),
        };
    }
    Ok(())
}

fn deltas(column_us: &[f64]) -> Vec<i64> {
    let mut before = 0;
    let delta = |us: &f64| {
        let ns = (us * 1e3).round() as i64;
        let delta = ns - before;
        before = ns;
        delta
    };
    column_us.iter().map(delta).collect()
}

fn sums(deltas: &[i64]) -> Vec<f64> {
    let mut ns = 0_i64;
    let sum = |delta: &i64| {
        ns = ns.saturating_add(*delta);
        ns as f64 / 1e3
    };
    deltas.iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_gets_its_own_samples_back() {
        let report = crate::fixture::report();
        let packed = pack(&report).unwrap();
        let mut bare = report.clone();
        bare.cells.iter_mut().for_each(|cell| cell.samples = Samples::default());
        unpack(&packed, &mut bare).unwrap();
        assert!(bare == report, "packing loses nothing");
        bare.cells.swap(0, 1);
        assert!(matches!(unpack(&packed, &mut bare), Err(SamplesError::OtherReport)));
        assert!(unpack(&packed[..packed.len() / 2], &mut bare).is_err(), "a truncated file is an error");
    }

    proptest! {
        #[test]
        fn columns_come_back(ns in proptest::collection::vec(-1_000_i64..1 << 50, 0..50)) {
            let column: Vec<f64> = ns.iter().map(|&ns| ns as f64 / 1e3).collect();
            prop_assert_eq!(sums(&deltas(&column)), column);
        }
    }
}
