//! Builds the tables of peak throughput, knee and goodput.

use crate::{
    model::{
        capacity::{Capacity, Point},
        report::Report,
    },
    report::{
        axes,
        columns::{by_load, concurrent_columns, open_columns},
        table::{NOTHING, Table, label, milliseconds, number},
    },
};

/// Goodput under each load; no columns without a bound.
pub(super) fn goodput(report: &Report) -> Table {
    let bound = report.settings.bound_ms;
    let columns = match bound {
        Some(_) => concurrent_columns(report).into_iter().chain(open_columns(report)).collect(),
        None => Vec::new(),
    };
    let title = format!("Goodput within {} ms (img/s)", bound.unwrap_or_default());
    by_load(report, &title, columns, |cell| Some(number(cell.goodput_per_s?, 1)))
        .note("Images in answers within the bound, per second. The latency of an open loop counts from the intended send time.")
}

/// Peak throughput, knee, and best goodput of each series of loads.
pub(super) fn capacities(report: &Report) -> Table {
    let mut columns =
        ["peak (img/s)", "at", "knee (img/s)", "at", "mean latency there (ms)", "times the lowest load's"]
            .map(str::to_owned)
            .to_vec();
    if report.settings.bound_ms.is_some() {
        columns.extend(["best goodput (img/s)", "at"].map(str::to_owned));
    }
    let row = |capacity: &Capacity| {
        let Capacity { lane, connection, payload, transport, peak, knee, knee_slowdown, goodput } = capacity;
        let mut row = vec![
            number(peak.images_per_s, 1),
            place(peak),
            number(knee.images_per_s, 1),
            place(knee),
            milliseconds(knee.mean_ms),
            format!("{knee_slowdown:.2}"),
        ];
        if report.settings.bound_ms.is_some() {
            let rate = goodput.map_or(NOTHING.into(), |point| number(point.images_per_s, 1));
            row.extend([rate, goodput.map_or(NOTHING.into(), |point| place(&point))]);
        }
        let variant = axes::variant(report, *connection, [*payload; 2], [*transport; 2]);
        (format!("{}{variant}", label(*lane)), row)
    };
    let rows = report.capacities.iter().map(row).collect();
    Table::new("Peak throughput and knee", "Lane", columns, rows).note(
        "The knee is the measured load with the highest ratio of throughput to mean latency (Kleinrock's power, 1979). Below \
         it more load mainly brings throughput, above it mainly latency. A point at the highest measured load may lie \
         beyond it.",
    )
}

fn place(point: &Point) -> String {
    format!("{}{}", point.load, if point.at_highest_load { " (highest measured)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis::capacity::capacities as found, fixture, model::load::Load, report::markdown::with_note};

    #[test]
    fn capacities_are_shown_with_their_loads() {
        let mut report = fixture::report();
        let concurrent = report.cells.iter().filter(|cell| matches!(cell.load, Load::Concurrent { .. })).cloned();
        let single = concurrent.map(|cell| crate::model::cell::Cell {
            load: Load::Concurrent { concurrency: 1, batch: 1 },
            images_per_s: cell.images_per_s.map(|rate| rate.scaled(0.5)),
            ..cell
        });
        report.cells.extend(single.collect::<Vec<_>>());
        report.settings.bound_ms = Some(20.0);
        report.settings.concurrency = vec![1, 8];
        for cell in &mut report.cells {
            cell.goodput_per_s = cell.images_per_s.map(|rate| rate.scaled(0.25));
        }
        report.capacities = found(&report);
        insta::assert_snapshot!(format!("{}{}", with_note(&goodput(&report)), with_note(&capacities(&report))), @r"
        ## Goodput within 20 ms (img/s)

        | Lane | conc=1 | conc=8 |
        |---|---:|---:|
        | JPEG HTTP | 43.2 (38.4–48.9) | 86.4 (76.8–97.9) |
        | ONNX HTTP | 49.6 (45.6–54.2) | 99.2 (91.1–108.4) |
        | ONNX gRPC | 45.4 (41.2–50.3) | 90.8 (82.5–100.5) |
        | TRT HTTP | 93.5 (86.1–102.0) | 187.1 (172.3–203.9) |
        | TRT gRPC | 88.1 (79.8–97.7) | 176.1 (159.6–195.5) |

        Images in answers within the bound, per second. The latency of an open loop counts from the intended send time.
        ## Peak throughput and knee

        | Lane | peak (img/s) | at | knee (img/s) | at | mean latency there (ms) | times the lowest load's | best goodput (img/s) | at |
        |---|---:|---:|---:|---:|---:|---:|---:|---:|
        | JPEG HTTP | 345.5 (307.2–391.5) | concurrent c=8 (highest measured) | 345.5 (307.2–391.5) | concurrent c=8 (highest measured) | 21.8 | 1.00 | 86.4 (76.8–97.9) | concurrent c=8 (highest measured) |
        | ONNX HTTP | 396.9 (364.5–433.8) | concurrent c=8 (highest measured) | 396.9 (364.5–433.8) | concurrent c=8 (highest measured) | 19.8 | 1.00 | 99.2 (91.1–108.4) | concurrent c=8 (highest measured) |
        | ONNX gRPC | 363.3 (330.0–402.1) | concurrent c=8 (highest measured) | 363.3 (330.0–402.1) | concurrent c=8 (highest measured) | 20.6 | 1.00 | 90.8 (82.5–100.5) | concurrent c=8 (highest measured) |
        | TRT HTTP | 748.4 (689.1–815.6) | concurrent c=8 (highest measured) | 748.4 (689.1–815.6) | concurrent c=8 (highest measured) | 10.5 | 1.00 | 187.1 (172.3–203.9) | concurrent c=8 (highest measured) |
        | TRT gRPC | 704.5 (638.4–781.9) | concurrent c=8 (highest measured) | 704.5 (638.4–781.9) | concurrent c=8 (highest measured) | 10.6 | 1.00 | 176.1 (159.6–195.5) | concurrent c=8 (highest measured) |

        The knee is the measured load with the highest ratio of throughput to mean latency (Kleinrock's power, 1979). Below it more load mainly brings throughput, above it mainly latency. A point at the highest measured load may lie beyond it.
        ");
    }
}
