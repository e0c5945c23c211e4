//! Builds the tables of open loops, connections, payloads and transports.

use std::fmt::Write as _;

use crate::{
    analysis::claims::difference,
    model::{
        cell::{Cell, Latency},
        connection::Policy,
        difference::Difference,
        encoding::Encoding,
        estimate::Statistic,
        metric::Metric,
        outputs::PayloadAccuracy,
        protocol::Protocol,
        report::Report,
        transport::Transport,
    },
    report::{
        accuracy,
        table::{NOTHING, Table, label, number, signed},
    },
};

/// A table with a row for each cell for which `row` returns one.
fn table(report: &Report, title: &str, columns: &[&str], row: impl Fn(&Cell) -> Option<Vec<String>>) -> Table {
    let row = |cell: &Cell| Some((label(cell.lane), row(cell)?));
    let columns = columns.iter().map(|&column| column.to_owned()).collect();
    Table::new(title, "Lane", columns, report.cells.iter().filter_map(row).collect())
}

/// Open loops: the offered and the achieved rate of each lane, with latencies.
pub(super) fn open_loop(report: &Report) -> Table {
    let columns = [
        "load",
        "offered/s",
        "achieved/s",
        "failed",
        "unsent",
        "p50 (ms)",
        "p99 (ms)",
        "p99 at most (ms)",
        "max (ms)",
        "service p50 (ms)",
        "service p99 (ms)",
        "lag p99 (ms)",
    ];
    let tail = |latency: &Latency| latency.p99.known().map_or(NOTHING.into(), |p99| number(p99, 1));
    let row = |cell: &Cell| {
        let open = cell.open.as_ref()?;
        let of =
            |latency: &Option<Latency>, what: fn(&Latency) -> String| latency.as_ref().map_or(NOTHING.into(), what);
        let p50 = |latency: &Latency| number(latency.p50, 1);
        Some(vec![
            format!("{}{}", cell.load, variant(report, cell.connection, [cell.payload; 2], [cell.transport; 2])),
            format!("{:.1}", open.offered_per_s),
            format!("{:.1}", open.achieved_per_s),
            cell.failures.count.to_string(),
            open.schedule.unsent.to_string(),
            of(&cell.latency_ms, p50),
            of(&cell.latency_ms, tail),
            of(&cell.latency_ms, |latency| latency.p99_at_most.map_or(NOTHING.into(), |ms| format!("{ms:.1}"))),
            of(&cell.latency_ms, |latency| format!("{:.1}", latency.max)),
            of(&open.service_ms, p50),
            of(&open.service_ms, tail),
            open.lag_ms.map_or(NOTHING.into(), |[_, p99, _]| format!("{p99:.2}")),
        ])
    };
    table(report, "Open loop: latency from the intended send time", &columns, row)
        .note("The true p99 is at most the value beside it with 99 % probability (an order statistic, as in MLPerf's early \
               stopping, from 662 requests on). Service time is completion minus send. Unsent requests were still waiting when the window ended.")
}

/// The connection policy, payload and transport of a cell or of a pair of cells, as far as the run varies them:
/// `, fresh, fp16`.
pub(super) fn variant(
    report: &Report,
    connection: Policy,
    payloads: [Option<Encoding>; 2],
    transports: [Transport; 2],
) -> String {
    let text = without_transport(report, connection, payloads);
    match transports {
        _ if report.settings.transports.len() < 2 => text,
        [a, b] if a != b => format!("{text}, {a} and {b}"),
        [transport, _] => format!("{text}, {transport}"),
    }
}

/// The same without the transport.
fn without_transport(report: &Report, connection: Policy, payloads: [Option<Encoding>; 2]) -> String {
    let mut text = String::new();
    if report.settings.connections.len() > 1 {
        let _ = write!(text, ", {connection}");
    }
    match payloads {
        _ if report.settings.payloads.len() < 2 => {}
        [Some(a), Some(b)] if a != b => {
            let _ = write!(text, ", {a} and {b}");
        }
        [payload, _] => {
            let _ = payload.map(|payload| write!(text, ", {payload}"));
        }
    }
    text
}

/// KB on the wire in each direction for each request. The connections of a window also carry its ramp and drain, so
/// their requests count too.
fn kb_each_way(cell: &Cell) -> [String; 2] {
    let requests = (cell.completed + cell.outside_window) as f64;
    [cell.traffic.sent_bytes, cell.traffic.received_bytes].map(|bytes| format!("{:.1}", bytes as f64 / requests / 1e3))
}

/// Connections: the time to open one, and how many were really opened.
pub(super) fn connections(report: &Report) -> Table {
    let columns = [
        "load",
        "connection",
        "TCP opened",
        "open at once",
        "connect (ms)",
        "TLS part (ms)",
        "first byte (ms)",
        "last byte (ms)",
        "KB/request out",
        "KB/request in",
    ];
    let row = |cell: &Cell| {
        let times = cell.times?;
        let [sent, received] = kb_each_way(cell);
        let payload = cell.payload.filter(|_| report.settings.payloads.len() > 1);
        Some(vec![
            payload.map_or(cell.load.to_string(), |payload| format!("{}, {payload}", cell.load)),
            cell.connection.to_string(),
            cell.traffic.opened.to_string(),
            cell.traffic.most_open.to_string(),
            number(times.connect_ms, 2),
            times.tls_ms.map_or("none".into(), |tls| number(tls, 2)),
            number(times.first_byte_ms, 1),
            number(times.last_byte_ms, 1),
            sent,
            received,
        ])
    };
    table(report, "Connections", &columns, row).note(
        "Times are medians since the request was sent; connecting includes the TLS handshake. Connections that were \
         already open do not count as opened. Bytes are counted at the socket: they include the framing of the \
         protocol and of TLS, but not the headers of TCP and IP.",
    )
}

/// The first request of each block, which found its connection idle.
pub(super) fn after_idle(report: &Report) -> Table {
    let columns = ["load", "blocks", "first request (ms)", "p50 of the others (ms)", "longer by (ms)"];
    let row = |cell: &Cell| {
        let idle = cell.after_idle?;
        Some(vec![
            format!("{}{}", cell.load, variant(report, cell.connection, [cell.payload; 2], [cell.transport; 2])),
            cell.blocks.len().to_string(),
            number(idle.latency_ms, 2),
            number(cell.latency_ms.as_ref()?.p50, 2),
            signed(idle.extra_ms, 2),
        ])
    };
    table(report, "The first request after an idle time", &columns, row).note(
        "Other lanes take turns between the blocks of a lane, and its connections are idle meanwhile. TCP then begins again \
         with a small window (slow start after idle), which costs round trips on a real link, and caches may be cold. This \
         request is not counted in any other table.",
    )
}

/// Payloads: the same images in several forms, what each saves and what it costs in accuracy; no rows if the run has only one,
/// and that is exact.
pub(super) fn payloads(report: &Report) -> Table {
    let columns = [
        "load",
        "payload",
        "KB/request out",
        "KB/request in",
        "p50 (ms)",
        "latency − exact payload's (Hodges-Lehmann, ms)",
        "img/s",
        "top-1 as exact",
        "least cosine",
    ];
    let shown = report.settings.payloads.len() > 1 || !report.outputs.payloads.is_empty();
    let row = |cell: &Cell| {
        let payload = cell.payload.filter(|_| shown)?;
        let [sent, received] = kb_each_way(cell);
        let [top1, cosine] = accuracy_columns(report, cell);
        Some(vec![
            format!("{}, {}", cell.load, cell.connection),
            payload.to_string(),
            sent,
            received,
            number(cell.latency_ms.as_ref()?.p50, 1),
            from_exact(report, cell).map_or(NOTHING.into(), |found| {
                format!("{}{}", signed(found.difference, 2), if found.is_significant() { " *" } else { "" })
            }),
            number(cell.images_per_s?, 1),
            top1,
            cosine,
        ])
    };
    let notes = [
        "* The interval of the difference, paired over blocks, does not include 0.",
        "The exact payload is the whole file on the jpeg lane, and FP32 on the others, which the client prepares as the server \
         does. The outputs of the others were compared with its outputs before anything was timed, over the photographs sent; \
         for a batch, over one request. Of several outputs the figures are those of the one that differs the most.",
        RANDOM_WEIGHTS,
    ];
    let is_random = accuracy::has_random_weights(report);
    let compared = !report.outputs.payloads.is_empty();
    let notes: Vec<&str> = notes
        .into_iter()
        .zip([true, compared, compared && is_random])
        .filter(|(_, on)| *on)
        .map(|(note, _)| note)
        .collect();
    table(report, "Payloads", &columns, row).note(notes.join(" "))
}

/// What agreement says of a model that recognises nothing.
const RANDOM_WEIGHTS: &str = "The weights are random, as the model's file states: many classes are almost equal, so the top-1 \
                              agreement says little of a trained model.";

/// The accuracy of a cell's payload: the top-1 agreement and the least cosine.
fn accuracy_columns(report: &Report, cell: &Cell) -> [String; 2] {
    let nothing = || [NOTHING, NOTHING].map(str::to_owned);
    let is_exact = cell.payload.is_none_or(|payload| payload.is_exact(Protocol::of(cell.lane)));
    match accuracy::of(report, cell) {
        _ if is_exact => ["exact", "exact"].map(str::to_owned),
        None => nothing(),
        Some(PayloadAccuracy { missing: Some(reason), .. }) => [format!("unknown: {reason}"), NOTHING.into()],
        Some(found) => {
            let top1 = found.top1.map_or("outputs cannot be compared".into(), |_| accuracy::top1(found));
            [top1, found.min_cosine.map_or(NOTHING.into(), |cosine| format!("{cosine:.5}"))]
        }
    }
}

/// The difference of a cell's latency from that of the exact payload of its lane, under the same load.
fn from_exact(report: &Report, cell: &Cell) -> Option<Difference> {
    let exact = accuracy::exact_cell(report, cell)?;
    difference(cell, exact, Metric::Latency(Statistic::Median), 1.0, &report.settings)
}

/// Transports: the same request over several transports, each compared with its lane's first; no rows if all use TCP.
pub(super) fn transports(report: &Report) -> Table {
    let columns = [
        "load",
        "protocol",
        "transport",
        "KB/request out",
        "KB/request in",
        "p50 (ms)",
        "img/s",
        "latency − first transport's (Hodges-Lehmann, ms)",
    ];
    let varied = report.cells.iter().any(|cell| cell.transport != Transport::Tcp);
    let first = |cell: &Cell| {
        let same = |c: &&Cell| {
            (c.lane, c.load, c.connection, c.payload) == (cell.lane, cell.load, cell.connection, cell.payload)
        };
        report.cells.iter().find(same).filter(|first| first.transport != cell.transport)
    };
    let row = |cell: &Cell| {
        let p50 = cell.latency_ms.as_ref().filter(|_| varied)?.p50;
        let [sent, received] = kb_each_way(cell);
        let from_first = first(cell)
            .and_then(|first| difference(cell, first, Metric::Latency(Statistic::Median), 1.0, &report.settings))
            .map_or(NOTHING.into(), |found| {
                format!("{}{}", signed(found.difference, 2), if found.is_significant() { " *" } else { "" })
            });
        Some(vec![
            format!("{}{}", cell.load, without_transport(report, cell.connection, [cell.payload; 2])),
            if Protocol::of(cell.lane) == Protocol::KserveGrpc { "gRPC" } else { "HTTP/1.1" }.into(),
            match cell.transport {
                Transport::Tcp => "TCP",
                Transport::Uds => "Unix socket",
                Transport::Shm => "shared memory",
            }
            .into(),
            sent,
            received,
            number(p50, 2),
            number(cell.images_per_s?, 1),
            from_first,
        ])
    };
    table(report, "Transports", &columns, row)
        .note("* The interval of the difference, paired over blocks, does not include 0.")
}
