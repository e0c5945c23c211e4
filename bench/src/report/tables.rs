//! Builds the tables of a report, without markup, in their order.

use crate::{
    analysis::summary::Summary,
    model::{cell::Cell, load::Load, outputs::PairAgreement, report::Report},
    report::{
        axes, capacity,
        columns::{by_load, concurrent_columns, open_columns, serial_columns},
        differences::{Between, LATENCY, differences},
        machines::{gpus, machines},
        predicted, scenario,
        table::{NOTHING, Table, label, number},
        verdicts::hypotheses,
        waterfalls::waterfalls,
    },
};

/// All tables that have rows, in order.
pub(crate) fn tables(report: &Report) -> Vec<Table> {
    let serial =
        |title: &str, value: &dyn Fn(&Cell) -> Option<String>| by_load(report, title, serial_columns(report), value);
    let mut tables = vec![lanes(report), machines(report)];
    tables.extend(report.scenario.as_ref().map(scenario::table));
    tables.extend([
        serial("Serial p50 latency (ms)", &|cell| Some(number(cell.latency_ms.as_ref()?.p50, 1))),
        charged(report),
        serial("Serial throughput (img/s)", &|cell| Some(number(cell.images_per_s?, 1))),
        speedups(report),
        serial("Server-side compute (ms for each request, by the server's counters)", &|cell| {
            Some(format!("{:.2}", cell.server.as_ref()?.compute_infer_ms))
        }),
    ]);
    tables.extend(waterfalls(report));
    tables.extend([
        client_cost(report),
        gpus(report),
        concurrent(report),
        capacity::goodput(report),
        capacity::capacities(report),
    ]);
    tables.extend([
        axes::open_loop(report),
        axes::connections(report),
        axes::after_idle(report),
        axes::payloads(report),
        axes::transports(report),
    ]);
    tables.extend(report.settings.link.map(|link| predicted::table(&Summary::from_report("", report), &link)));
    for between in [Between::Servers, Between::Lanes] {
        let (latency, throughput) = (LATENCY, "throughput (img/s)");
        tables.extend([
            differences(report, between, latency, 2, serial_columns(report)),
            differences(report, between, throughput, 1, concurrent_columns(report)),
            differences(report, between, latency, 2, open_columns(report)),
        ]);
    }
    tables.extend([agreement(report), hypotheses(&report.hypotheses)]);
    tables.retain(|table| !table.columns.is_empty() && !table.rows.is_empty());
    tables
}

fn lanes(report: &Report) -> Table {
    let rows = report
        .lanes
        .iter()
        .map(|info| {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
            let cells = || report.cells.iter().filter(|cell| cell.lane == info.lane);
            let payload = cells().find(|cell| cell.load == Load::Serial { batch: 1 }).map_or(NOTHING.into(), |cell| {
                format!("{:.1} / {:.1}", cell.request_bytes as f64 / 1e3, cell.response_bytes as f64 / 1e3)
            });
            let connections = cells().map(|cell| cell.connections).max().unwrap_or(0);
            let failed: u64 = cells().map(|cell| cell.failures.count + cell.warm_up.failures.count).sum();
            let row = [
                info.url.clone(),
                text(&info.server),
                text(&info.effective_provider),
                payload,
                connections.to_string(),
                failed.to_string(),
            ];
            (label(info.lane), row.to_vec())
        })
        .collect();
    let columns =
        ["Address", "Server", "Effective provider", "KB/image out / in", "TCP connections (max)", "Failed requests"];
    Table::new("Lanes", "Lane", columns.map(str::to_owned).to_vec(), rows)
}

fn concurrent(report: &Report) -> Table {
    let title = match report.settings.concurrent_batches[..] {
        [1] => "Concurrent throughput (batch=1, img/s)",
        _ => "Concurrent throughput (img/s)",
    };
    by_load(report, title, concurrent_columns(report), |cell| Some(number(cell.images_per_s?, 1)))
}

/// Serial latency including the preprocessing that tensor lanes leave to the client.
fn charged(report: &Report) -> Table {
    let title = "Serial p50 latency with client preprocessing charged (ms)";
    let columns = if report.client_preprocess_ms.is_some() { serial_columns(report) } else { Vec::new() };
    let table = by_load(report, title, columns, |cell| {
        Some(number(cell.charged_p50_ms.or_else(|| Some(cell.latency_ms.as_ref()?.p50))?, 1))
    });
    table.note(format!(
        "On the JPEG lane the server decodes, resizes and normalises the image. On the tensor lanes the client does \
         this, which took {} ms for each image here; this table adds that time.{}",
        report.client_preprocess_ms.map_or(NOTHING.into(), |ms| number(ms, 2)),
        report.client_resize_ms.map_or(String::new(), |ms| {
            format!(
                " The images of jpeg-224 were resized and encoded by the client, which took {} ms for each.",
                number(ms, 2)
            )
        })
    ))
}

/// What the requests cost the client itself.
fn client_cost(report: &Report) -> Table {
    let any = report.cells.iter().any(|cell| cell.client_ms.is_some());
    let columns = if any { serial_columns(report) } else { Vec::new() };
    let table = by_load(report, "What the client itself costs (median, ms)", columns, |cell| {
        let (client, latency) = (cell.client_ms?, cell.latency_ms.as_ref()?.p50.value);
        Some(format!("{}, {:.1} %", number(client, 3), client.value / latency * 100.0))
    });
    table.note(
        "The same requests, one at a time, to a server on loopback that reads them and has no model, and the share of that \
         in p50. It contains loopback and the reading, and neither TLS nor the link; so it is the most that the client can \
         take, and is not subtracted anywhere. Over gRPC that server takes frames of 1 MiB, as Quintet's does; shorter ones \
         cost the client more.",
    )
}

fn speedups(report: &Report) -> Table {
    let rows: Vec<_> = [("ONNX gRPC/HTTP", "onnx"), ("TRT gRPC/HTTP", "trt")]
        .into_iter()
        .filter(|(_, service)| report.speedups.iter().any(|speedup| speedup.service == *service))
        .map(|(name, service)| {
            let value = |&batch: &usize| {
                let found = report.speedups.iter().find(|s| s.service == service && s.batch == batch);
                found.map_or(NOTHING.into(), |s| {
                    format!("{:.2}× ({:.2}–{:.2})", s.speedup.value, s.speedup.low, s.speedup.high)
                })
            };
            (name.to_owned(), report.settings.batches.iter().map(value).collect())
        })
        .collect();
    let columns = report.settings.batches.iter().map(|batch| format!("b={batch}")).collect();
    Table::new(
        "gRPC speedup vs HTTP (same service, Hodges-Lehmann ratio of latencies; >1.00× = gRPC faster)",
        "Pair",
        columns,
        rows,
    )
}

/// The largest difference of a pair's outputs, relative to their largest element.
fn relative_difference(pair: &PairAgreement) -> Option<f64> {
    Some(pair.max_abs_difference? / pair.scale).filter(|relative| relative.is_finite())
}

/// How well the outputs of each pair of lanes agree.
fn agreement(report: &Report) -> Table {
    let row = |pair: &PairAgreement| {
        let shown = |value: Option<f64>, text: &dyn Fn(f64) -> String| value.map_or(NOTHING.into(), text);
        let [a, b] = pair.precisions;
        let row = [
            if a == b { a.to_string() } else { format!("{a} and {b}") },
            shown(relative_difference(pair), &|relative| format!("{relative:.1e}")),
            shown(pair.tolerance, &|tolerance| format!("{tolerance:.0e}")),
            shown(pair.top1, &|share| format!("{:.0} %", share * 100.0)),
            shown(pair.min_cosine, &|cosine| format!("{cosine:.6}")),
            if pair.agree { "yes" } else { "no" }.into(),
        ];
        let output = pair.output.as_ref().map_or(String::new(), |output| format!(" (`{output}`)"));
        (format!("{} and {}{output}", label(pair.a), label(pair.b)), row.to_vec())
    };
    let columns = ["precision", "largest difference", "tolerance", "top-1 agreement", "smallest cosine", "agree"];
    let rows = report.outputs.pairs.iter().map(row).collect();
    Table::new("Outputs", "Pair", columns.map(str::to_owned).to_vec(), rows).note(
        "Differences and tolerances are relative to the largest element. The tolerance is that of the less precise lane; \
         FP32 stands for a server that states no precision. Top-1 agreement is the share of the photographs for which \
         the largest element is at the same place.",
    )
}

/// How well the outputs agree, in a sentence; `None` if none were compared.
pub(crate) fn outputs(report: &Report) -> Option<String> {
    let pairs = &report.outputs.pairs;
    if pairs.is_empty() {
        return None;
    }
    let agree = pairs.iter().filter(|pair| pair.agree).count();
    let relative = pairs.iter().filter_map(relative_difference).fold(0.0, f64::max);
    let cosine = pairs.iter().filter_map(|p| p.min_cosine).fold(1.0, f64::min);
    Some(format!(
        "Outputs: {agree} of {} pairs of lanes agree (largest difference {relative:.1e} of the largest element, largest \
         tolerance {:.0e}; smallest cosine {cosine:.6}).",
        pairs.len(),
        report.outputs.tolerance
    ))
}
