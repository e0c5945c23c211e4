//! Builds the tables of the waterfalls: latency part by part.

use crate::{
    model::{
        estimate::Estimate,
        lane::Lane,
        load::Load,
        part::Part,
        report::Report,
        waterfall::{Source, Waterfall},
    },
    report::{
        columns::{measured_lanes, open_columns, serial_columns},
        table::{NOTHING, Table, label, number},
    },
};

/// The loads whose waterfalls are shown: the smallest and the largest batch, and open loops.
pub(crate) fn waterfall_loads(report: &Report) -> Vec<Load> {
    let mut loads: Vec<Load> = serial_columns(report).into_iter().map(|(_, load)| load).collect();
    if loads.len() > 2 {
        loads.drain(1..loads.len() - 1);
    }
    loads.extend(open_columns(report).into_iter().map(|(_, load)| load));
    loads
}

/// The lanes' waterfalls under a load.
pub(crate) fn waterfalls_at(report: &Report, load: Load) -> Vec<(Lane, &Waterfall)> {
    measured_lanes(report).filter_map(|lane| Some((lane, report.cell(lane, load)?.waterfall.as_ref()?))).collect()
}

/// Where the time of a request goes, part by part.
pub(crate) fn waterfalls(report: &Report) -> Vec<Table> {
    let table = |load: Load| {
        let found = waterfalls_at(report, load);
        let time = |waterfall: &Waterfall, part: Part| match waterfall.parts.iter().find(|time| time.part == part) {
            Some(time) => time.ms.map_or_else(|| "unknown".to_owned(), shown),
            None => NOTHING.into(),
        };
        let row = |part: Part| {
            let place = format!("{:?}", part.location()).to_lowercase();
            let name =
                if part == Part::Unknown { "unknown, together".into() } else { format!("{} ({place})", part.name()) };
            (name, found.iter().map(|(_, waterfall)| time(waterfall, part)).collect::<Vec<_>>())
        };
        let parts = Part::ALL.into_iter().filter(|&part| match part {
            Part::Unknown => found.iter().any(|(_, waterfall)| waterfall.source != Source::StageTimes),
            Part::Tls | Part::Unaccounted => found.iter().any(|(_, waterfall)| waterfall.ms(part).is_some()),
            _ => true,
        });
        let of = |value: fn(&Waterfall) -> f64| found.iter().map(|(_, w)| format!("{:.2}", value(w))).collect();
        let sums = [("sum of the parts".to_owned(), of(|w| w.sum_ms)), ("measured".to_owned(), of(|w| w.latency_ms))];
        let rows = parts.map(row).chain(sums).collect();
        let columns = found.iter().map(|(lane, _)| label(*lane)).collect();
        let title = format!("Where the time of a request goes, {load} (mean, ms)");
        Table::new(&title, "Part", columns, rows).note(
            "Server parts come from the server's stage times, or from Triton's statistics if it sends none. `network` \
             is both directions together, at most the round trip of the connection; what is longer and in no stage of the \
             server is `unaccounted`. On a slow link the upload is in `receive`.",
        )
    };
    waterfall_loads(report).into_iter().map(table).collect()
}

/// Small times need more digits; a single block has no interval.
fn shown(ms: Estimate) -> String {
    if ms.n > 1 { number(ms, 2) } else { format!("{:.2}", ms.value) }
}
