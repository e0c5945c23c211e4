//! Checks: what a reader should know before believing a figure, each warning from one rule in [`RULES`].
//!
//! Our own reports and imported figures go through the same rules. A new warning is a [`Rule`] in the file for what it
//! looks at, and a line in [`RULES`]. A rule holds by arithmetic on any result, never by a file or a name.

pub mod client;
pub mod connections;
pub mod latency;
pub mod load;
pub mod outputs;
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
pub const RULES: [Rule; 31] = [
    run::INTERRUPTED,
    run::RESUMED,
    run::REQUEST_ERRORS,
    outputs::DIFFER,
    outputs::NOT_COMPARED,
    server::SHARED_PROVIDER,
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
];

/// Judges a report, whose samples must be there; the worst first.
pub fn judge(report: &Report) -> Vec<Warning> {
    by_severity(warnings(&Evidence { summary: &Summary::of("", report), report: Some(report) }))
}

/// Judges imported figures, the worst first; one warning for all lanes with the same message.
pub fn judge_imported(summary: &Summary) -> Vec<Warning> {
    by_severity(together(warnings(&Evidence { summary, report: None })))
}

fn warnings(evidence: &Evidence) -> Vec<Warning> {
    RULES.iter().flat_map(|rule| rule.judge(evidence)).collect()
}

/// The worst first, in their order otherwise.
fn by_severity(mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.sort_by_key(|warning| Reverse(warning.severity));
    warnings
}

/// One warning for all lanes with the same message.
fn together(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut once: Vec<Warning> = Vec::new();
    for warning in warnings {
        match once.iter_mut().find(|other| (&other.code, &other.message) == (&warning.code, &warning.message)) {
            Some(same) => same.lanes.extend(warning.lanes),
            None => once.push(warning),
        }
    }
    once
}

#[cfg(test)]
mod tests;
