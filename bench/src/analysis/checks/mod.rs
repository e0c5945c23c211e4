//! Rules that look for reasons to distrust a result. Each finding is a warning with the code of its rule.
//!
//! Our own reports and imported figures go through the same rules. To add a warning, add a [`Rule`] to the file of its
//! subject and a line to [`RULES`]. A rule decides by arithmetic alone, so it works on any result.

pub mod client;
pub mod connections;
pub mod latency;
pub mod load;
pub mod machine;
pub mod outputs;
pub mod peers;
pub mod rule;
pub mod run;
pub mod samples;
pub mod server;
pub mod warm_up;

use std::cmp::Reverse;

use rule::{Evidence, Rule};

use crate::{
    analysis::summary::Summary,
    model::{report::Report, warning::Warning},
};

/// Every rule. Warnings of one severity are shown in this order.
pub const RULES: [Rule; 38] = [
    run::INTERRUPTED,
    run::RESUMED,
    run::REQUEST_ERRORS,
    outputs::DIFFER,
    outputs::NOT_COMPARED,
    server::SHARED_PROVIDER,
    peers::SETTINGS_DIFFER,
    server::COUNT_MISMATCH,
    server::NO_COUNTERS,
    warm_up::ENGINE_BUILD,
    server::COUNTERS_OUTSIDE_WINDOW,
    latency::PARTS_DO_NOT_ADD_UP,
    warm_up::COLD_START,
    warm_up::OUTLIER,
    server::QUEUE_EQUALS_DELAY,
    connections::FRESH,
    connections::SHARED,
    latency::LINK_BOUND,
    client::SATURATED,
    client::COST,
    machine::GPU_THROTTLED,
    machine::GPU_CLOCK,
    machine::CLIENT_STEAL,
    latency::UNSTABLE,
    run::NOT_PAIRED,
    connections::RECONNECTED,
    samples::THROUGHPUT_NOT_MEASURED,
    load::CONCURRENCY_NOT_REACHED,
    samples::TOO_FEW,
    samples::TOO_FEW_FOR_P99,
    samples::BYTES_NOT_COUNTED,
    load::SCHEDULE_LAG,
    load::IN_FLIGHT_LIMIT,
    warm_up::UNSTEADY,
    warm_up::COLD_START_IN_WARM_UP,
    client::UNOPTIMISED,
    machine::GPU_WARMED,
    machine::CLIENT_GOVERNOR,
];

/// The warnings about a report, the most severe first. The report's samples must be loaded.
pub fn judge(report: &Report) -> Vec<Warning> {
    by_severity(warnings(&Evidence { summary: &Summary::from_report("", report), report: Some(report) }))
}

/// The warnings about imported figures, the most severe first. Lanes with the same message share one warning.
pub fn judge_imported(summary: &Summary) -> Vec<Warning> {
    by_severity(merge_lanes(warnings(&Evidence { summary, report: None })))
}

fn warnings(evidence: &Evidence) -> Vec<Warning> {
    RULES.iter().flat_map(|rule| rule.judge(evidence)).collect()
}

/// Sorts the most severe first and keeps the order otherwise.
fn by_severity(mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.sort_by_key(|warning| Reverse(warning.severity));
    warnings
}

/// Merges warnings that differ only in their lanes.
fn merge_lanes(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut merged: Vec<Warning> = Vec::new();
    for warning in warnings {
        match merged.iter_mut().find(|other| (&other.code, &other.message) == (&warning.code, &warning.message)) {
            Some(same) => same.lanes.extend(warning.lanes),
            None => merged.push(warning),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
