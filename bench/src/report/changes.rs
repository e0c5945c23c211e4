//! Builds the table of differences between saved runs.

use crate::{
    analysis::changes::{Change, Direction, changes},
    model::{environment::Environment, estimate::Statistic, metric::Metric, report::Report},
    report::{
        axes,
        table::{NOTHING, Table, label, signed},
    },
};

/// The interval and its limits.
const METHOD: &str = "Welch's interval (95 %) of the difference of the two figures, with blocks as observations (their \
                      standard errors by bootstrap). * The interval does not include 0: of 20 rows that do not differ, \
                      one is expected to have a star by chance. p50 needs 11 requests for a star, p99 needs 662.";

/// A run under its name.
pub(crate) type Named<'a> = (&'a str, &'a Report);

/// What changed from the first run to each later one; no rows if the runs have no cell in common.
pub(super) fn table(first: Named<'_>, later: &[Named<'_>]) -> Table {
    let rows = later.iter().flat_map(|(name, report)| {
        let several = if later.len() > 1 { format!("{name}: ") } else { String::new() };
        changes(first.1, report).into_iter().filter(is_shown).map(move |change| row(&several, first.1, &change))
    });
    let columns = ["first", "later − first", "later / first", "later run"].map(str::to_owned).to_vec();
    let title = "Differences from the first run, not paired";
    Table::new(title, "Lane and load", columns, rows.collect()).note(format!("{METHOD} {}", independence(first, later)))
}

/// p99 only where a verdict is possible.
fn is_shown(change: &Change<'_>) -> bool {
    let tail = change.metric == Metric::Latency(Statistic::P99);
    let enough = |fewest| change.difference.is_some_and(|found| found.difference.n >= fewest);
    !tail || enough(change.metric.statistic().fewest_for_verdict())
}

fn row(run: &str, first: &Report, change: &Change<'_>) -> (String, Vec<String>) {
    let Change { first: cell, metric, difference } = change;
    let variant = axes::variant(first, cell.connection, [cell.payload; 2], [cell.transport; 2]);
    let name = format!("{run}{} {}{variant}, {metric} ({})", label(cell.lane), cell.load, metric.unit());
    let digits = if *metric == Metric::Throughput { 1 } else { 2 };
    let latency = cell.latency_ms.as_ref();
    let value = match metric {
        Metric::Throughput => cell.images_per_s.map(|rate| rate.value),
        Metric::Latency(Statistic::P99) => latency.and_then(|latency| Some(latency.p99.known()?.value)),
        _ => latency.map(|latency| latency.p50.value),
    };
    let value = value.map_or(NOTHING.into(), |value| format!("{value:.digits$}"));
    let Some(found) = difference else {
        return (name, vec![value, "one block: no interval".into(), NOTHING.into(), "undecided".into()]);
    };
    let ratio = found.ratio.map_or(NOTHING.into(), |r| format!("{:.2}× ({:.2}–{:.2})", r.value, r.low, r.high));
    let better = if *metric == Metric::Throughput { ["higher *", "lower *"] } else { ["faster *", "slower *"] };
    let verdict = match change.direction() {
        Direction::Better => better[0],
        Direction::Worse => better[1],
        Direction::Undecided => "undecided",
    };
    (name, vec![value, signed(found.difference, digits), ratio, verdict.into()])
}

/// Why a star is not yet a change of the server.
fn independence((_, first): Named<'_>, later: &[Named<'_>]) -> String {
    let machine = |environment: &Environment| format!("{} ({} cores)", environment.cpu, environment.cores);
    let own = machine(&first.environment);
    let other = later.iter().map(|(_, report)| machine(&report.environment)).find(|other| *other != own);
    let machines = other.map_or(String::new(), |other| format!(" The clients' machines differ: {own}, and {other}."));
    format!(
        "The runs were made one after the other, so a difference can come from the machine, its load or the link as well \
         as from the server.{machines}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_star_is_only_where_the_interval_excludes_0() {
        let first = fixture::report();
        let mut later = first.clone();
        later.environment.cores = 64;
        for cell in later.cells.iter_mut().filter(|cell| cell.lane.service() == "trt") {
            cell.samples.latency_us.iter_mut().for_each(|us| *us *= 2.0);
        }
        let Table { rows, note, .. } = table(("a", &first), &[("b", &later)]);
        for (name, values) in &rows {
            let (difference, verdict) = (&values[1], &values[3]);
            let slower = name.starts_with("TRT") && name.contains("p50");
            assert_eq!(verdict == "slower *", slower, "{name}: {difference} {verdict}");
        }
        assert!(rows.iter().any(|(name, _)| name == "TRT gRPC concurrent c=8, throughput (img/s)"), "{:?}", rows[0]);
        assert!(rows.iter().all(|(name, _)| !name.contains("p99")), "30 requests decide nothing about p99");
        let note = note.unwrap();
        assert!(
            note.ends_with("The clients' machines differ: Example CPU (2 cores), and Example CPU (64 cores)."),
            "{note}"
        );
        let two = table(("a", &first), &[("b", &later), ("c", &first)]);
        assert!(two.rows.iter().any(|(name, _)| name.starts_with("c: TRT gRPC")));
    }
}
