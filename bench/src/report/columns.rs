//! Builds the columns and rows of tables of lanes by loads.

use crate::{
    model::{cell::Cell, lane::Lane, load::Load, report::Report},
    report::table::{NOTHING, Table, label},
};

pub(crate) fn measured_lanes(report: &Report) -> impl Iterator<Item = Lane> {
    report.lanes.iter().map(|info| info.lane)
}

pub(crate) fn serial_columns(report: &Report) -> Vec<(String, Load)> {
    report.settings.batches.iter().map(|&batch| (format!("b={batch}"), Load::Serial { batch })).collect()
}

pub(crate) fn concurrent_columns(report: &Report) -> Vec<(String, Load)> {
    let settings = &report.settings;
    let sizes = settings.concurrent_batches.iter();
    let loads = sizes.flat_map(|&batch| settings.concurrency.iter().map(move |&concurrency| (concurrency, batch)));
    let column = |(concurrency, batch)| {
        let name = match batch {
            1 => format!("conc={concurrency}"),
            _ => format!("conc={concurrency}, b={batch}"),
        };
        (name, Load::Concurrent { concurrency, batch })
    };
    loads.map(column).collect()
}

/// The open loops that were measured.
pub(crate) fn open_columns(report: &Report) -> Vec<(String, Load)> {
    let mut loads: Vec<Load> =
        report.cells.iter().map(|cell| cell.load).filter(|load| matches!(load, Load::Open { .. })).collect();
    loads.sort_unstable();
    loads.dedup();
    loads.into_iter().map(|load| (load.to_string(), load)).collect()
}

/// A table of lanes by loads.
pub(crate) fn by_load(
    report: &Report,
    title: &str,
    columns: Vec<(String, Load)>,
    value: impl Fn(&Cell) -> Option<String>,
) -> Table {
    let cell = |lane, load| report.cell(lane, load).and_then(&value).unwrap_or_else(|| NOTHING.into());
    let row = |lane| (label(lane), columns.iter().map(|(_, load)| cell(lane, *load)).collect());
    let rows = measured_lanes(report).map(row).collect();
    Table::new(title, "Lane", columns.into_iter().map(|(name, _)| name).collect(), rows)
}
