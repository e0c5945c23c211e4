//! Rules about the samples: whether there are enough, and whether the figures were measured at all.

use std::collections::BTreeSet;

use super::rule::{Evidence, Finding, Rule, by_lane, per_lane};
use crate::{
    analysis::{
        stats::samples_needed,
        summary::{Bytes, Cell, Summary},
    },
    model::{cell, load::Load, report::Report, warning::Severity, words::list},
};

/// Fewer samples than this have no distribution-free 95 % interval of the median.
const FEWEST_SAMPLES: usize = 6;
/// Relative difference up to which two figures count as equal.
const ROUNDING: f64 = 1e-9;

/// Too few samples for any interval.
pub const TOO_FEW: Rule = Rule {
    code: "too-few-samples",
    severity: Severity::Warning,
    meaning: "Cells have too few samples for an interval of the median.",
    remedy: "Raise --iterations or --duration.",
    imported: None,
    find: |evidence| {
        let short = evidence.cells().iter().filter(|cell| (cell.completed as usize) < FEWEST_SAMPLES);
        let lanes = by_lane(short.map(|cell| (cell.lane, cell.load))).into_iter();
        let message =
            |loads| format!("fewer than {FEWEST_SAMPLES} samples in {}: the intervals are unreliable", list(loads));
        lanes.map(|(lane, loads)| Finding { lanes: vec![lane], message: message(loads) }).collect()
    },
};

/// Too few samples for an interval of the 99th percentile.
pub const TOO_FEW_FOR_P99: Rule = Rule {
    code: "too-few-samples-for-p99",
    severity: Severity::Note,
    meaning: "Cells have too few samples for an interval of p99: a report omits p99, imported figures state it \
              nevertheless.",
    remedy: "Raise --iterations or --duration if the tail matters.",
    imported: Some((Severity::Warning, "Measure more samples and report intervals.")),
    find: |evidence| match evidence.report {
        Some(report) => p99_omitted(report),
        None => p99_of_few(evidence.summary),
    },
};

fn p99_omitted(report: &Report) -> Vec<Finding> {
    let needed = samples_needed(0.99);
    let unknown = |cell: &&cell::Cell| cell.latency_ms.as_ref().is_none_or(|latency| latency.p99.known().is_none());
    let short = || report.cells.iter().filter(unknown);
    let loads: BTreeSet<Load> = short().map(|cell| cell.load).collect();
    let lanes: BTreeSet<_> = short().map(|cell| cell.lane).collect();
    if lanes.is_empty() {
        return Vec::new();
    }
    let queueing = loads.iter().any(|load| !matches!(load, Load::Serial { .. }));
    let more = if queueing { ", or too few of requests that wait for each other" } else { "" };
    let message = format!("p99 is omitted because there are fewer than {needed} samples{more}: {}", list(loads));
    vec![Finding { lanes: lanes.into_iter().collect(), message }]
}

fn p99_of_few(summary: &Summary) -> Vec<Finding> {
    let needed = samples_needed(0.99);
    let short = || summary.cells.iter().filter(|cell| cell.p99_ms.is_some() && (cell.samples as usize) < needed);
    let (Some(fewest), Some(most)) = (short().map(|c| c.samples).min(), short().map(|c| c.samples).max()) else {
        return Vec::new();
    };
    let samples = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    let message = format!(
        "p99 of {samples} samples is close to the largest of them; an interval needs {needed} samples for p99 and {} \
         for p95",
        samples_needed(0.95)
    );
    let lanes: BTreeSet<_> = short().map(|cell| cell.lane).collect();
    vec![Finding { lanes: lanes.into_iter().collect(), message }]
}

/// Every serial rate is the batch size divided by the median.
pub const THROUGHPUT_NOT_MEASURED: Rule = Rule {
    code: "throughput-not-measured",
    severity: Severity::Warning,
    meaning: "In imported figures, serial throughput is calculated from the median, not measured.",
    remedy: "Divide the completed images by the elapsed time.",
    imported: None,
    find: throughput_not_measured,
};

fn throughput_not_measured(evidence: &Evidence) -> Vec<Finding> {
    let Some(summary) = evidence.imported() else { return Vec::new() };
    let serial: Vec<_> = summary.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. })).collect();
    let by_median = |cell: &&Cell| {
        let rate = cell.images() / cell.p50_ms * 1e3;
        (cell.images_per_s - rate).abs() <= ROUNDING * rate
    };
    if serial.is_empty() || !serial.iter().all(by_median) {
        return Vec::new();
    }
    let overstated = serial.iter().map(|cell| cell.mean_ms / cell.p50_ms - 1.0).fold(0.0, f64::max);
    let lower = (1.0 - 1.0 / (1.0 + overstated)) * 100.0;
    let message = format!(
        "serial throughput is the batch size divided by p50, not the completed images divided by the elapsed time; \
         with the mean latency it would be up to {lower:.0} % lower"
    );
    vec![Finding { lanes: summary.lanes(), message }]
}

/// The size of the requests is a rounded estimate.
pub const BYTES_NOT_COUNTED: Rule = Rule {
    code: "bytes-not-counted",
    severity: Severity::Warning,
    meaning: "The size of the requests is a rounded estimate, not a count.",
    remedy: "Count the bytes in both directions on the wire; base64 alone adds a third.",
    imported: None,
    find: |evidence| {
        let found = evidence.summary.cells.iter().filter_map(|cell| match cell.request {
            Bytes::Nominal(bytes) => Some((cell.lane, cell.load, format!("{} KB", bytes as f64 / 1e3))),
            Bytes::Exact(_) | Bytes::Unknown => None,
        });
        per_lane("the size of the requests is a rounded estimate, not a count", found)
    },
};
