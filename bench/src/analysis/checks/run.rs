//! Rules about the whole run: stopped, resumed, with failed requests, or with lanes that did not alternate.

use std::collections::BTreeSet;

use super::rule::{Evidence, Finding, Rule, by_lane};
use crate::model::{warning::Severity, words::list};

/// The run was stopped.
pub const INTERRUPTED: Rule = Rule {
    code: "interrupted",
    severity: Severity::Warning,
    meaning: "The run was stopped before its end.",
    remedy: "Continue the run with --resume.",
    imported: None,
    find: |evidence| {
        let message = "the run was stopped before its end: some cells are missing or incomplete".to_owned();
        let stopped = evidence.report.is_some_and(|report| report.interrupted);
        if stopped { vec![Finding { lanes: Vec::new(), message }] } else { Vec::new() }
    },
};

/// The run was resumed.
pub const RESUMED: Rule = Rule {
    code: "resumed",
    severity: Severity::Note,
    meaning: "The run was stopped and resumed later.",
    remedy: "If this matters, repeat the run without a break.",
    imported: None,
    find: |evidence| {
        let resumed = evidence.report.filter(|report| !report.resumed_at.is_empty());
        let finding = resumed.map(|report| Finding {
            lanes: Vec::new(),
            message: format!(
                "the run was stopped and resumed at {}: the machine or the network may have changed in between",
                list(&report.resumed_at)
            ),
        });
        finding.into_iter().collect()
    },
};

/// Requests failed.
pub const REQUEST_ERRORS: Rule = Rule {
    code: "request-errors",
    severity: Severity::Error,
    meaning: "Requests failed, in warm-up or while measuring.",
    remedy: "Failed requests have no latency: find their cause in the server's log and measure again.",
    imported: None,
    find: request_errors,
};

fn request_errors(evidence: &Evidence) -> Vec<Finding> {
    let failing = evidence.cells().iter().filter(|cell| cell.failures.count + cell.warm_up.failures.count > 0);
    by_lane(failing.map(|cell| (cell.lane, cell)))
        .into_iter()
        .map(|(lane, cells)| {
            let failed: u64 = cells.iter().map(|c| c.failures.count + c.warm_up.failures.count).sum();
            let sent: u64 = cells.iter().map(|c| c.sent + c.warm_up.sent).sum();
            let first = cells.iter().find_map(|c| c.warm_up.failures.first.as_ref().or(c.failures.first.as_ref()));
            let message = format!(
                "{failed} of {sent} requests failed in {}; the first: {}",
                list(cells.iter().map(|c| c.load)),
                first.map_or("unknown", String::as_str)
            );
            Finding { lanes: vec![lane], message }
        })
        .collect()
}

/// The lanes did not alternate.
pub const NOT_PAIRED: Rule = Rule {
    code: "not-paired",
    severity: Severity::Note,
    meaning: "Each lane has only one block, so a difference between lanes may be drift of the machine.",
    remedy: "Do not conclude from these figures that lanes differ: repeat the run, or compare serial loads with \
             several blocks.",
    imported: None,
    find: not_paired,
};

fn not_paired(evidence: &Evidence) -> Vec<Finding> {
    let differences = evidence.report.map_or(&[][..], |report| &report.differences);
    let (mut loads, mut lanes) = (BTreeSet::new(), BTreeSet::new());
    for difference in differences.iter().filter(|difference| !difference.difference.paired) {
        loads.insert(difference.load);
        lanes.extend([difference.a, difference.b]);
    }
    if loads.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "each lane has only one block in {}: a difference between lanes may be drift of the machine",
        list(loads)
    );
    vec![Finding { lanes: lanes.into_iter().collect(), message }]
}
