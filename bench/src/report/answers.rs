//! The answer of several runs in one table: the same lanes over other links, connections and payloads.

use crate::{
    model::{
        cell::Cell, connection::Policy, encoding::Encoding, lane::Lane, load::Load, part::Part, protocol::Protocol,
        report::Report, transport::Transport, words::list,
    },
    report::table::{NOTHING, label, milliseconds},
};

/// Least width of a column, in characters.
const COLUMN: usize = 9;
/// Least space between two heads, in characters.
const GAP: usize = 2;
/// Width of the first column, in characters.
const FIRST: usize = 11;

/// Requests of one form in one run.
#[derive(Clone, Copy, PartialEq)]
struct Column {
    run: usize,
    connection: Policy,
    payload: Option<Encoding>,
}

/// A cell and its column.
type Measured<'a> = (Column, &'a Cell);

/// The median times of single images in all runs, side by side, and for each run what they depend on.
pub fn answers(reports: &[Report]) -> String {
    let cells: Vec<Measured<'_>> = reports.iter().enumerate().flat_map(|(run, report)| single(run, report)).collect();
    let mut columns: Vec<Column> = Vec::new();
    let mut lanes: Vec<Lane> = Vec::new();
    for (column, cell) in &cells {
        if !columns.contains(column) {
            columns.push(*column);
        }
        if !lanes.contains(&cell.lane) {
            lanes.push(cell.lane);
        }
    }
    columns
        .sort_by_key(|column| (column.run, column.connection == Policy::Fresh, column.payload != Some(Encoding::Jpeg)));
    lanes.sort_unstable();
    let names: Vec<String> = reports.iter().map(name).collect();
    let mut lines = vec![title(reports, &cells)];
    let widths = widths(&columns, &names);
    lines.extend(heads(&columns, &names, &widths));
    for lane in lanes {
        let time = |column: &Column| {
            let cell = cells.iter().find(|(other, cell)| other == column && cell.lane == lane);
            cell.and_then(|(_, cell)| p50(cell)).map_or(NOTHING.into(), milliseconds)
        };
        let times = columns.iter().zip(&widths).map(|(column, width)| format!("{:>1$}", time(column), width));
        lines.push(format!("{:<FIRST$}{}", label(lane), times.collect::<String>()));
    }
    lines.extend(names.iter().enumerate().flat_map(|(run, name)| dependence(run, name, &cells)));
    let failed: u64 = reports.iter().map(Report::failed).sum();
    if failed > 0 {
        lines.push(format!("{failed} requests failed: read the warnings in report.md first"));
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The cells of one image at a time over TCP.
fn single(run: usize, report: &Report) -> impl Iterator<Item = Measured<'_>> {
    let single = |cell: &&Cell| cell.load == Load::Serial { batch: 1 } && cell.transport == Transport::Tcp;
    report
        .cells
        .iter()
        .filter(single)
        .map(move |cell| (Column { run, connection: cell.connection, payload: cell.payload }, cell))
}

fn p50(cell: &Cell) -> Option<f64> {
    cell.latency_ms.as_ref().map(|latency| latency.p50.value)
}

/// The run's link: emulated, loopback, or the one that is there.
fn name(report: &Report) -> String {
    let local = |url: &str| ["//127.", "//localhost", "//[::1]"].iter().any(|host| url.contains(host));
    match report.settings.link {
        Some(link) => link.to_string(),
        None if report.lanes.iter().all(|lane| local(&lane.url)) => "loopback".into(),
        None => "no emulated link".into(),
    }
}

fn title(reports: &[Report], cells: &[Measured<'_>]) -> String {
    let mut models: Vec<&str> = reports.iter().map(|report| report.settings.model.as_str()).collect();
    models.dedup();
    let mut providers: Vec<&str> =
        reports.iter().flat_map(|report| &report.lanes).filter_map(|lane| lane.effective_provider.as_deref()).collect();
    providers.sort_unstable();
    providers.dedup();
    let on = if providers.is_empty() { String::new() } else { format!(" on {}", list(providers)) };
    let counts = || cells.iter().map(|(_, cell)| cell.completed);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let count = if least == most { least.to_string() } else { format!("{least} to {most}") };
    format!("{}{on}, one image at a time: median in ms of {count} requests", list(models))
}

/// The width of each column: that of its heads, of which a run's name has room above all its columns.
fn widths(columns: &[Column], names: &[String]) -> Vec<usize> {
    let width = |column: &Column| {
        let heads = [column.connection.to_string(), payload(column)];
        heads.iter().map(|head| head.chars().count() + GAP).fold(COLUMN, usize::max)
    };
    let mut widths: Vec<usize> = columns.iter().map(width).collect();
    for (run, name) in names.iter().enumerate() {
        let of_run: Vec<usize> = (0..columns.len()).filter(|&i| columns[i].run == run).collect();
        let room: usize = of_run.iter().map(|&i| widths[i]).sum();
        if let Some(&first) = of_run.first() {
            widths[first] += (name.chars().count() + GAP).saturating_sub(room);
        }
    }
    widths
}

/// Three lines above the columns: the run, the connection policy, the payload; each above the last of its columns.
fn heads(columns: &[Column], names: &[String], widths: &[usize]) -> [String; 3] {
    let line = |text: &dyn Fn(&Column) -> String, same: &dyn Fn(&Column, &Column) -> bool| {
        let mut line = " ".repeat(FIRST);
        let mut width = 0;
        for (i, column) in columns.iter().enumerate() {
            width += widths[i];
            if columns.get(i + 1).is_none_or(|next| !same(column, next)) {
                line += &format!("{:>width$}", text(column));
                width = 0;
            }
        }
        line
    };
    let run = |a: &Column, b: &Column| a.run == b.run;
    let connection = |a: &Column, b: &Column| (a.run, a.connection) == (b.run, b.connection);
    [
        line(&|column| names[column.run].clone(), &run),
        line(&|column| column.connection.to_string(), &connection),
        line(&payload, &|_, _| false),
    ]
}

fn payload(column: &Column) -> String {
    column.payload.map_or(NOTHING.into(), |payload| payload.to_string())
}

/// What the times of a run depend on: the model's share, and ratios of the medians of requests that differ in one thing.
fn dependence(run: usize, name: &str, cells: &[Measured<'_>]) -> Vec<String> {
    let cells: Vec<Measured<'_>> = cells.iter().filter(|(column, _)| column.run == run).copied().collect();
    let shares: Vec<f64> = cells
        .iter()
        .filter_map(|(_, cell)| cell.waterfall.as_ref())
        .filter_map(|waterfall| Some(waterfall.ms(Part::Infer)? / waterfall.latency_ms * 100.0))
        .collect();
    let head =
        range(&shares, 0).map_or(format!("{name}:"), |share| format!("{name}: the model takes {share} % of the time"));
    let mut ratios: Vec<String> = Vec::new();
    let ratio = |words: &str, pair: &dyn Fn(&Measured<'_>, &Measured<'_>) -> bool| {
        let ratios: Vec<f64> = cells
            .iter()
            .flat_map(|a| cells.iter().filter(|b| pair(a, b)).map(move |b| (a, b)))
            .filter_map(|(a, b)| Some(p50(a.1)? / p50(b.1)?))
            .collect();
        range(&ratios, 2).map(|range| format!("{words} {range}"))
    };
    let jpeg = |payload| payload == Some(Encoding::Jpeg);
    ratios.extend(ratio("tensor ÷ jpeg", &|(a, x), (b, y)| {
        x.lane == y.lane && a.connection == b.connection && a.payload == Some(Encoding::Fp32) && jpeg(b.payload)
    }));
    ratios.extend(ratio("fresh ÷ reused", &|(a, x), (b, y)| {
        x.lane == y.lane && a.payload == b.payload && (a.connection, b.connection) == (Policy::Fresh, Policy::Reused)
    }));
    ratios.extend(ratio("HTTP ÷ gRPC", &|(a, x), (b, y)| {
        let protocols = (Protocol::of(x.lane), Protocol::of(y.lane));
        a == b
            && (x.lane.peer, x.lane.service()) == (y.lane.peer, y.lane.service())
            && protocols == (Protocol::KserveHttp, Protocol::KserveGrpc)
    }));
    ratios.extend(ratio("peer ÷ suite", &|(a, x), (b, y)| {
        a == b && x.lane.kind == y.lane.kind && x.lane.peer.is_some() && y.lane.peer.is_none()
    }));
    if ratios.is_empty() { vec![head] } else { vec![head, format!("  {}", ratios.join("; "))] }
}

/// The least and the largest of some numbers; `None` of none.
fn range(numbers: &[f64], digits: usize) -> Option<String> {
    let least = numbers.iter().copied().reduce(f64::min)?;
    let most = numbers.iter().copied().reduce(f64::max)?;
    let [least, most] = [least, most].map(|number| format!("{number:.digits$}"));
    Some(if least == most { least } else { format!("{least}–{most}") })
}

#[cfg(test)]
mod tests {
    use quintet_proto::lanes::Lane as Kind;

    use super::*;
    use crate::fixture;

    /// The report of the fixture, with each cell also on fresh connections and with the other payload, `slower` times as slow.
    fn over_a_link(slower: f64) -> Report {
        let mut report = fixture::report();
        report.settings.link = Some("rtt=35ms,up=20mbit".parse().unwrap());
        let mut cells = Vec::new();
        for connection in [Policy::Fresh, Policy::Reused] {
            for payload in [Encoding::Fp32, Encoding::Jpeg] {
                for mut cell in report
                    .cells
                    .iter()
                    .filter(|cell| cell.lane.kind != Kind::Jpeg || payload == Encoding::Jpeg)
                    .cloned()
                {
                    let times = f64::from(1 + u8::from(connection == Policy::Fresh))
                        * if payload == Encoding::Fp32 { slower } else { 1.0 };
                    cell.connection = connection;
                    cell.payload = Some(payload);
                    if let Some(latency) = &mut cell.latency_ms {
                        latency.p50.value *= times;
                    }
                    cells.push(cell);
                }
            }
        }
        report.cells = cells;
        report
    }

    #[test]
    fn runs_stand_side_by_side() {
        let text = answers(&[fixture::report(), over_a_link(3.0)]);
        assert!(text.lines().count() <= 13, "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_was_not_measured_is_not_compared() {
        let mut report = fixture::report();
        report.cells.retain(|cell| cell.lane == Lane::JPEG);
        assert!(!answers(std::slice::from_ref(&report)).contains('÷'));
        report.cells.clear();
        assert_eq!(answers(&[report]).lines().count(), 5);
        assert_eq!(answers(&[]), ", one image at a time: median in ms of 0 requests\n\n\n\n");
    }
}
