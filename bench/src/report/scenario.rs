//! Builds the table of a scenario's results.

use crate::{
    model::scenario::{LEAST_DURATION, Scenario, ScenarioResult, ScenarioResults},
    report::table::{NOTHING, Table, label, milliseconds},
};

/// The result of each lane, VALID or INVALID and why.
pub(crate) fn table(results: &ScenarioResults) -> Table {
    let scenario = results.scenario;
    let percentile = scenario.quantile().map(|p| format!("empirical p{:.0} (ms)", p * 100.0));
    let mut columns = vec![scenario.unit().to_owned(), "result is".into(), "why".into()];
    columns.extend(percentile.clone());
    columns.extend([scenario.counted().to_owned(), "seconds".into()]);
    let row = |result: &ScenarioResult| {
        let value = result.value.map(|value| match scenario {
            Scenario::SingleStream | Scenario::MultiStream => milliseconds(value),
            Scenario::Offline | Scenario::Server => format!("{value:.1}"),
        });
        let why = if result.invalid.is_empty() { NOTHING.into() } else { result.invalid.join("; ") };
        let mut row = vec![value.unwrap_or_else(|| NOTHING.into()), result.validity().to_owned(), why];
        if percentile.is_some() {
            row.push(result.percentile_ms.map_or(NOTHING.into(), milliseconds));
        }
        row.extend([result.queries.to_string(), format!("{:.1}", result.duration_s)]);
        (format!("{}{}", label(result.lane), variant(results, result)), row)
    };
    let rows = results.results.iter().map(row).collect();
    let bound = results.bound_ms.map_or(String::new(), |bound| format!(" (p99 within {bound} ms)"));
    Table::new(&format!("MLPerf scenario {}{bound}", scenario.name()), "Lane", columns, rows).note(format!(
        "By the rules of MLPerf Inference: at least {} s and {} {}. A latency is the early-stopping estimate, which the true \
         percentile does not exceed with 99 % probability. MLPerf's accuracy run is not part of this.",
        LEAST_DURATION.as_secs(),
        scenario.least_queries(),
        scenario.counted()
    ))
}

/// Connection, payload and transport of a result, as far as the lane has several results.
fn variant(results: &ScenarioResults, result: &ScenarioResult) -> String {
    if results.results.iter().filter(|other| other.lane == result.lane).count() < 2 {
        return String::new();
    }
    let payload = result.payload.map_or(String::new(), |payload| format!(", {payload}"));
    format!(", {}{payload}, {}", result.connection, result.transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis::scenario::judge, fixture, report::markdown::with_note};

    #[test]
    fn results_are_valid_or_invalid_and_say_why() {
        let report = fixture::report();
        let results = |scenario: Scenario, bound_ms| {
            let cells = report.cells.iter().skip(15).take(2);
            let mut results: Vec<_> = cells.map(|cell| judge(scenario, cell, 15.0, false)).collect();
            results[1].invalid.clear();
            with_note(&table(&ScenarioResults { scenario, min_duration_s: 600.0, min_queries: 64, bound_ms, results }))
        };
        insta::assert_snapshot!(results(Scenario::SingleStream, None) + &results(Scenario::Offline, None), @r"
        ## MLPerf scenario SingleStream

        | Lane | p90 (ms) | result is | why | empirical p90 (ms) | queries | seconds |
        |---|---:|---:|---:|---:|---:|---:|
        | JPEG HTTP | – | INVALID | too short: 0.1 s, the rules ask for 600 s; too few queries: 48, the rules ask for 64 | 24.1 | 48 | 0.1 |
        | ONNX HTTP | – | VALID | – | 21.8 | 48 | 0.1 |

        By the rules of MLPerf Inference: at least 600 s and 64 queries. A latency is the early-stopping estimate, which the true percentile does not exceed with 99 % probability. MLPerf's accuracy run is not part of this.
        ## MLPerf scenario Offline

        | Lane | samples/s | result is | why | samples | seconds |
        |---|---:|---:|---:|---:|---:|
        | JPEG HTTP | 345.5 | INVALID | too short: 0.1 s, the rules ask for 600 s; too few samples: 48, the rules ask for 24576 | 48 | 0.1 |
        | ONNX HTTP | 396.9 | VALID | – | 48 | 0.1 |

        By the rules of MLPerf Inference: at least 600 s and 24576 samples. A latency is the early-stopping estimate, which the true percentile does not exceed with 99 % probability. MLPerf's accuracy run is not part of this.
        ");
    }
}
