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
