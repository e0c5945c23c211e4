//! How much was measured, and of what, for the heads of reports.

use std::time::Duration;

use crate::model::{duration::duration_text, report::Report};

/// How many requests of how many blocks, or how long and how many queries of a scenario.
pub fn extent(report: &Report) -> String {
    let settings = &report.settings;
    match &report.scenario {
        Some(scenario) => format!(
            "each lane without a pause for at least {} and {} queries",
            duration_text(Duration::try_from_secs_f64(scenario.min_duration_s).unwrap_or_default()),
            scenario.min_queries
        ),
        None => format!("{} requests for each lane and batch in {} blocks", settings.iterations, settings.blocks),
    }
}

/// What was sent: `Photographs` and their names and sizes, or `Data` and its kind.
pub fn sent(report: &Report) -> (&'static str, String) {
    let photographs: Vec<_> =
        report.photographs.iter().map(|p| format!("{} ({:.1} KB)", p.name, p.bytes as f64 / 1e3)).collect();
    match &photographs[..] {
        [] => ("Data", report.settings.data.to_string()),
        _ => ("Photographs", photographs.join(", ")),
    }
}
