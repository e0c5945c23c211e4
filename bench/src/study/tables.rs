//! Prints figures as the study does: its five tables with the same digits, warnings, and its plot.

use quintet_proto::lanes::Lane as Kind;

use crate::{
    analysis::{
        checks::warm_up::ENGINE_BUILD,
        summary::{Cell, Form, Summary},
    },
    model::{lane::Lane, link::LinkSpec, load::Load, warning::Warning},
    report::{
        markdown::{predicted, table, warning_list},
        plots,
        svg::{
            lines::{self, Point, Series},
            scale::{Axis, Scale},
        },
        table::{self, NOTHING},
    },
};

/// A lane's name in the study.
fn label(lane: Lane) -> &'static str {
    match lane.kind {
        Kind::Jpeg => "PyTorch HTTP (JPEG)",
        Kind::OnnxHttp => "Triton ONNX HTTP",
        Kind::OnnxGrpc => "Triton ONNX gRPC",
        Kind::TrtHttp => "Triton TRT HTTP",
        Kind::TrtGrpc => "Triton TRT gRPC",
    }
}

/// The tables and the warnings in Markdown.
pub fn markdown(summary: &Summary, warnings: &[Warning], link: Option<&LinkSpec>) -> String {
    let suspect = |lane: Lane| warnings.iter().any(|w| w.code == ENGINE_BUILD.code && w.lanes.contains(&lane));
    let (serial, concurrent): (Vec<_>, Vec<_>) =
        summary.loads().into_iter().partition(|load| matches!(load, Load::Serial { .. }));
    let lanes = summary.lanes();
    let by_load = |title: &str, loads: &[Load], value: &dyn Fn(&Cell) -> Option<String>| {
        let row = |&lane: &Lane| {
            let value = |&load| summary.cell(lane, load).and_then(value).unwrap_or_else(|| NOTHING.into());
            (label(lane).to_owned(), loads.iter().map(value).collect::<Vec<_>>())
        };
        let rows: Vec<(String, Vec<String>)> =
            lanes.iter().map(row).filter(|(_, row)| row.iter().any(|value| value != NOTHING)).collect();
        let columns: Vec<String> = loads.iter().copied().map(column).collect();
        if rows.is_empty() { String::new() } else { table(title, "Backend", &columns, &rows) }
    };
    let compute = |cell: &Cell| {
        let mark = if suspect(cell.lane) { " ⚠" } else { "" };
        Some(format!("{:.2}{mark}", cell.server?.compute_ms))
    };
    let sections = [
        format!("# {}\n\n{} · {} requests in each serial cell\n", summary.name, summary.started_at, summary.iterations),
        by_load("Serial p50 latency (ms)", &serial, &|cell| Some(format!("{:.1}", cell.p50_ms))),
        by_load("Serial throughput (img/s)", &serial, &|cell| Some(format!("{:.1}", cell.images_per_s))),
        speedups(summary, &serial),
        by_load("Server-side GPU compute (Triton metrics, ms)", &serial, &compute),
        by_load("Concurrent throughput (batch=1, img/s)", &concurrent, &|cell| {
            Some(format!("{:.1}", cell.images_per_s))
        }),
        link.map_or(String::new(), |link| predicted(summary, link)),
        warning_list(warnings),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

fn column(load: Load) -> String {
    match load {
        Load::Serial { batch } => format!("b={batch}"),
        Load::Concurrent { concurrency, .. } => format!("conc={concurrency}"),
        Load::Open { .. } => load.to_string(),
    }
}

/// Serial p50 by batch size as a standalone SVG; `None` without serial cells.
pub fn svg(summary: &Summary) -> Option<String> {
    let name = |lane| match summary.form {
        Form::Study => label(lane).to_owned(),
        Form::Report => table::label(lane),
    };
    let point = |cell: &Cell| Point { x: cell.images(), y: cell.p50_ms, interval: cell.p50_interval };
    let line = |lane: Lane| {
        let points = summary.serial(lane).into_iter().map(point).collect();
        Series { class: plots::class(lane), label: name(lane), points, marks: true }
    };
    let series: Vec<Series> = summary.lanes().into_iter().map(line).collect();
    let mut batches: Vec<f64> = series.iter().flat_map(|line| &line.points).map(|point| point.x).collect();
    batches.sort_unstable_by(f64::total_cmp);
    batches.dedup();
    lines::file(
        &format!("{}: p50 latency by batch size", summary.name),
        &Axis { label: "images in a request", scale: Scale::Log, ticks: batches },
        &Axis { label: "p50 latency, ms", scale: Scale::Log, ticks: Vec::new() },
        &series,
    )
}

/// p50 over HTTP divided by p50 over gRPC, for each service with both.
fn speedups(summary: &Summary, serial: &[Load]) -> String {
    let pairs =
        [("ONNX gRPC/HTTP", Lane::ONNX_HTTP, Lane::ONNX_GRPC), ("TRT gRPC/HTTP", Lane::TRT_HTTP, Lane::TRT_GRPC)];
    let mut rows = Vec::new();
    for (name, http, grpc) in pairs {
        let speedup = |&load: &Load| Some(summary.cell(http, load)?.p50_ms / summary.cell(grpc, load)?.p50_ms);
        let row: Vec<_> = serial.iter().map(speedup).collect();
        if row.iter().any(Option::is_some) {
            let cell = |speedup: Option<f64>| speedup.map_or(NOTHING.to_owned(), |value| format!("{value:.2}×"));
            rows.push((name.to_owned(), row.into_iter().map(cell).collect()));
        }
    }
    let columns: Vec<String> = serial.iter().copied().map(column).collect();
    let title = "gRPC speedup vs HTTP (same backend, p50; >1.0× = gRPC faster)";
    if rows.is_empty() { String::new() } else { table(title, "Pair", &columns, &rows) }
}
