//! Builds the table that compares predicted latency with measured latency.

use crate::{
    analysis::{
        predict::{Predicted, predicted},
        summary::Summary,
    },
    model::link::LinkSpec,
    report::table::{NOTHING, Table, label},
};

/// The table; it has no rows if no cell can be predicted.
pub(super) fn table(summary: &Summary, link: &LinkSpec) -> Table {
    let rows = predicted(link, summary)
        .into_iter()
        .map(|Predicted { cell, prediction }| {
            let row = [
                cell.load.batch().to_string(),
                cell.connection.map_or(NOTHING.into(), |policy| policy.to_string()),
                prediction.handshakes.to_string(),
                prediction.rounds.to_string(),
                format!("{:.1}", prediction.serialisation_ms),
                format!("{:.1}", prediction.server_ms),
                format!("{:.1}", prediction.total_ms),
                format!("{:.1}", cell.p50_ms),
                format!("{:+.0} %", (cell.p50_ms / prediction.total_ms - 1.0) * 100.0),
            ];
            (label(cell.lane), row.to_vec())
        })
        .collect();
    let columns = [
        "b",
        "connection",
        "handshakes",
        "round trips",
        "serialisation",
        "server",
        "predicted",
        "measured p50",
        "off by",
    ];
    let title = format!("Predicted beside measured (ms, on a link of `{link}`)");
    Table::new(&title, "Lane", columns.map(str::to_owned).to_vec(), rows)
}
