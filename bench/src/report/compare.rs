//! Writes the comparison of several runs in Markdown.

use crate::{
    analysis::{
        compare::{Layer, Run, ServerDifference, dollars_per_million, seconds_per_image, server_differences, warnings},
        predict::predicted,
        summary::{Cell, Interval},
    },
    model::{hypothesis::Verdict, lane::Lane, load::Load, report::Report, words::list},
    report::{
        changes,
        markdown::{self, table, warning_list},
        table::{NOTHING, label},
    },
};

/// The comparison in Markdown. `reports` are the runs of which there is more than a summary.
pub fn markdown(runs: &[Run], reports: &[(&str, &Report)]) -> String {
    let serial = |cell: &Cell| matches!(cell.load, Load::Serial { .. });
    let p50 = |_: &Run, cell: &Cell| Some((cell.p50_ms, cell.p50_interval));
    let rate = |_: &Run, cell: &Cell| Some((cell.images_per_s, cell.images_interval));
    let layer = |layer| {
        move |run: &Run, cell: &Cell| {
            let seconds = seconds_per_image(&run.summary, cell, layer)?;
            Some((seconds * 1e3 * cell.images(), None))
        }
    };
    let off_link = |run: &Run, cell: &Cell| {
        let predicted = predicted(&run.summary.link?, &run.summary);
        let prediction = predicted.iter().find(|predicted| predicted.cell == cell)?.prediction;
        Some((cell.p50_ms - (prediction.total_ms - prediction.server_ms), None))
    };
    let cost = |layer| move |run: &Run, cell: &Cell| Some((dollars_per_million(run, cell, layer)?, None));
    let mut sections = vec![
        head(runs),
        servers(runs),
        changed(reports),
        section(runs, "Serial p50 latency (ms)", 1, serial, &p50),
        section(runs, "Serial p50 latency that the link does not explain (ms)", 1, serial, &off_link),
        section(runs, "Time in the server for each request (mean, ms)", 2, serial, &layer(Layer::Server)),
        section(runs, "Server compute time for each request (mean, ms)", 2, serial, &layer(Layer::Compute)),
        section(runs, "Serial throughput (img/s)", 1, serial, &rate),
        section(runs, "Concurrent throughput (img/s)", 1, |cell| !serial(cell), &rate),
    ];
    for layer in Layer::ALL {
        let title = format!("Dollars for a million images, {}", layer.name());
        sections.push(section(runs, &title, 3, serial, &cost(layer)));
    }
    sections.push(warning_list(&warnings(runs)));
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The differences from the first run, if there is another one.
fn changed(reports: &[(&str, &Report)]) -> String {
    let [first, later @ ..] = reports else { return String::new() };
    let table = changes::table(*first, later);
    if table.rows.is_empty() { String::new() } else { markdown::with_note(&table) }
}

fn head(runs: &[Run]) -> String {
    let columns = ["Started", "Serial requests", "Link", "$/h"].map(str::to_owned);
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let row = [
                run.summary.started_at.clone(),
                run.summary.iterations.to_string(),
                run.summary.link.map_or("unknown".into(), |link| link.to_string()),
                run.price_per_hour.map_or(NOTHING.into(), |price| price.to_string()),
            ];
            (run.summary.name.clone(), row.to_vec())
        })
        .collect();
    table("Runs", "Run", &columns, &rows)
}

/// What differs between the servers; empty if nothing is known to differ.
fn servers(runs: &[Run]) -> String {
    let found = server_differences(runs);
    let all = runs.iter().map(|run| run.summary.servers.len()).max().unwrap_or(0);
    let row = |difference: &ServerDifference| {
        let lanes = &difference.lanes;
        let of = if lanes.len() == all { String::new() } else { format!(" ({})", list(lanes)) };
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| NOTHING.into());
        (format!("{}{of}", difference.what), difference.values.iter().map(value).collect())
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let columns: Vec<String> = runs.iter().map(|run| run.summary.name.clone()).collect();
    if rows.is_empty() { String::new() } else { table("What differs between the servers", "What", &columns, &rows) }
}

/// H5 between the first report and another: a verdict for each lane, with its reason.
pub fn slower_gpu(name: &str, verdicts: &[(Lane, Verdict, String)]) -> String {
    let row = |(lane, verdict, reason): &(Lane, Verdict, String)| {
        (label(*lane), vec![verdict.name().to_owned(), reason.clone()])
    };
    let rows: Vec<_> = verdicts.iter().map(row).collect();
    let title = format!("H5: a slower GPU makes the transport's share of the latency smaller ({name} / first)");
    if rows.is_empty() { String::new() } else { table(&title, "Lane", &["Verdict", "Why"].map(str::to_owned), &rows) }
}

/// A value and, where it is known, its interval.
type Figure = (f64, Option<Interval>);

/// A table with a row for each lane and load, a column for each run, and the ratio of each to the first.
fn section(
    runs: &[Run],
    title: &str,
    digits: usize,
    keep: impl Fn(&Cell) -> bool,
    value: &dyn Fn(&Run, &Cell) -> Option<Figure>,
) -> String {
    let mut keys: Vec<(Lane, Load)> = runs
        .iter()
        .flat_map(|run| run.summary.cells.iter().filter(|cell| keep(cell)).map(|cell| (cell.lane, cell.load)))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut rows = Vec::new();
    for (lane, load) in keys {
        let values: Vec<_> =
            runs.iter().map(|run| run.summary.cell(lane, load).and_then(|cell| value(run, cell))).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let text = |value: &Option<Figure>| value.map_or(NOTHING.into(), |(value, _)| format!("{value:.digits$}"));
        let mut row: Vec<String> = values.iter().map(text).collect();
        row.extend(values[1..].iter().map(|value| ratio(*value, values[0]).unwrap_or_else(|| NOTHING.into())));
        rows.push((format!("{} {load}", label(lane)), row));
    }
    let mut columns: Vec<String> = runs.iter().map(|run| run.summary.name.clone()).collect();
    columns.extend(runs[1..].iter().map(|run| format!("{} / first", run.summary.name)));
    if rows.is_empty() { String::new() } else { table(title, "Lane and load", &columns, &rows) }
}

/// The ratio to the first run's value, with the widest interval that both allow.
fn ratio(value: Option<Figure>, first: Option<Figure>) -> Option<String> {
    let ((value, interval), (first, first_interval)) = (value?, first?);
    let text = format!("{:.2}×", value / first);
    Some(match (interval, first_interval) {
        (Some((low, high)), Some((first_low, first_high))) => {
            format!("{text} ({:.2}–{:.2})", low / first_high, high / first_low)
        }
        _ => text,
    })
}
