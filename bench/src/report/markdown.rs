//! `report.md`: the study's five tables with intervals, and what is needed to believe them.

use std::fmt::Write as _;

use quintet_proto::lanes::Lane;

use super::{Cell, ExportError, Exporter, Report, axes};
use crate::{plan::Load, stats::Estimate};

/// The Markdown form.
pub struct Markdown;

/// What stands where nothing was measured.
const NOTHING: &str = "–";

impl Exporter for Markdown {
    fn file_name(&self) -> &'static str {
        "report.md"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        let sections = [
            head(report),
            lanes(report),
            outputs(report),
            serial(report, "Serial p50 latency (ms)", |cell| Some(number(cell.latency_ms.as_ref()?.p50, 1))),
            charged(report),
            serial(report, "Serial throughput (img/s)", |cell| Some(number(cell.images_per_s?, 1))),
            speedups(report),
            serial(report, "Server-side compute (ms for each request, by the server's counters)", |cell| {
                Some(format!("{:.2}", cell.server.as_ref()?.compute_infer_ms))
            }),
            stages(report),
            concurrent(report),
            axes::open_loop(report),
            axes::connections(report),
            axes::payloads(report),
            warnings(report),
        ];
        Ok(sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n"))
    }
}

/// A lane's name in tables.
pub(super) fn label(lane: Lane) -> &'static str {
    match lane {
        Lane::Jpeg => "JPEG HTTP",
        Lane::OnnxHttp => "ONNX HTTP",
        Lane::OnnxGrpc => "ONNX gRPC",
        Lane::TrtHttp => "TRT HTTP",
        Lane::TrtGrpc => "TRT gRPC",
    }
}

/// A value and its interval.
pub(super) fn number(estimate: Estimate, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}–{:.digits$})", estimate.value, estimate.low, estimate.high)
}

/// A table: a title, the head of the first column, the other heads, and rows.
fn table(title: &str, first: &str, columns: &[String], rows: &[(String, Vec<String>)]) -> String {
    let mut text = format!("## {title}\n\n| {first} |");
    for column in columns {
        let _ = write!(text, " {column} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(columns.len()));
    for (name, values) in rows {
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    }
    text
}

/// A table of lanes by loads.
fn by_load(
    report: &Report,
    title: &str,
    columns: &[(String, Load)],
    lanes: impl Iterator<Item = Lane>,
    value: impl Fn(&Cell) -> Option<String>,
) -> String {
    let rows: Vec<_> = lanes
        .map(|lane| {
            let value = |load| report.cell(lane, load).and_then(&value).unwrap_or_else(|| NOTHING.into());
            (label(lane).to_owned(), columns.iter().map(|(_, load)| value(*load)).collect())
        })
        .collect();
    if columns.is_empty() || rows.is_empty() {
        return String::new();
    }
    table(title, "Lane", &columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), &rows)
}

fn measured_lanes(report: &Report) -> impl Iterator<Item = Lane> {
    report.lanes.iter().map(|info| info.lane)
}

fn serial_columns(report: &Report) -> Vec<(String, Load)> {
    report.settings.batches.iter().map(|&batch| (format!("b={batch}"), Load::Serial { batch })).collect()
}

fn serial(report: &Report, title: &str, value: impl Fn(&Cell) -> Option<String>) -> String {
    by_load(report, title, &serial_columns(report), measured_lanes(report), value)
}

fn concurrent(report: &Report) -> String {
    let columns: Vec<_> = report
        .settings
        .concurrency
        .iter()
        .map(|&concurrency| (format!("conc={concurrency}"), Load::Concurrent { concurrency, batch: 1 }))
        .collect();
    by_load(report, "Concurrent throughput (batch=1, img/s)", &columns, measured_lanes(report), |cell| {
        Some(number(cell.images_per_s?, 1))
    })
}

/// The first table again with the work that tensor lanes leave to the client.
fn charged(report: &Report) -> String {
    let Some(preprocess) = report.client_preprocess_ms else { return String::new() };
    let title = "Serial p50 latency with client preprocessing charged (ms)";
    let table = serial(report, title, |cell| {
        Some(number(cell.charged_p50_ms.or_else(|| Some(cell.latency_ms.as_ref()?.p50))?, 1))
    });
    if table.is_empty() {
        return table;
    }
    format!(
        "{table}\nThe JPEG lane decodes, resizes and normalises on the server; for the tensor lanes the client does, in {} ms \
         for each image here.\n",
        number(preprocess, 2)
    )
}

fn speedups(report: &Report) -> String {
    let columns: Vec<_> = report.settings.batches.iter().map(|batch| format!("b={batch}")).collect();
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
    if rows.is_empty() {
        return String::new();
    }
    table("gRPC speedup vs HTTP (same service, p50; >1.00× = gRPC faster)", "Pair", &columns, &rows)
}

/// Where the server spent the smallest serial batch's time, beside what the client saw.
fn stages(report: &Report) -> String {
    let Some(&batch) = report.settings.batches.first() else { return String::new() };
    let rows: Vec<_> = measured_lanes(report)
        .filter_map(|lane| {
            let cell = report.cell(lane, Load::Serial { batch })?;
            let server = cell.server.as_ref()?;
            let stages = [
                server.queue_ms,
                server.compute_input_ms,
                server.compute_infer_ms,
                server.compute_output_ms,
                server.request_ms,
                cell.latency_ms.as_ref()?.mean.value,
            ];
            Some((label(lane).to_owned(), stages.iter().map(|ms| format!("{ms:.2}")).collect()))
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["queue", "input", "infer", "output", "in the server", "seen by the client"].map(str::to_owned);
    table(&format!("Server stages at b={batch} (mean, ms)"), "Lane", &columns, &rows)
}

fn head(report: &Report) -> String {
    let Report { environment, settings, .. } = report;
    let mut text = format!("# Five lanes side by side: {}\n\n", settings.model);
    if report.interrupted {
        text.push_str("**Interrupted: what follows was measured up to then.**\n\n");
    }
    let _ = writeln!(
        text,
        "{} · {:.0} s · quintet-bench {} · {} ({} cores) · {}",
        report.started_at, report.elapsed_s, environment.version, environment.cpu, environment.cores, environment.os
    );
    let photographs: Vec<_> =
        report.photographs.iter().map(|p| format!("{} ({:.1} KB)", p.name, p.bytes as f64 / 1e3)).collect();
    let _ = writeln!(
        text,
        "\n{} requests for each lane and batch in {} blocks, windows of {:.1} s, seed {}. Photographs: {}.\n\
         Values are followed by their 95 % interval.",
        settings.iterations,
        settings.blocks,
        settings.duration.as_secs_f64(),
        settings.seed,
        photographs.join(", ")
    );
    text
}

fn lanes(report: &Report) -> String {
    let rows: Vec<_> = report
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
            (label(info.lane).to_owned(), row.to_vec())
        })
        .collect();
    let columns =
        ["Address", "Server", "Effective provider", "KB/image out / in", "TCP connections (most)", "Failed requests"];
    table("Lanes", "Lane", &columns.map(str::to_owned), &rows)
}

fn outputs(report: &Report) -> String {
    let pairs = &report.outputs.pairs;
    if pairs.is_empty() {
        return String::new();
    }
    let agree = pairs.iter().filter(|pair| pair.agree).count();
    let relative = pairs
        .iter()
        .filter_map(|p| Some(p.max_abs_difference? / p.scale))
        .filter(|r| r.is_finite())
        .fold(0.0, f64::max);
    let cosine = pairs.iter().filter_map(|p| p.min_cosine).fold(1.0, f64::min);
    format!(
        "Outputs: {agree} of {} pairs of lanes agree (largest difference {relative:.1e} of the largest element, tolerance \
         {:.0e}; smallest cosine {cosine:.6}).\n",
        pairs.len(),
        report.outputs.tolerance
    )
}

fn warnings(report: &Report) -> String {
    if report.warnings.is_empty() {
        return "## Warnings\n\nNone.\n".into();
    }
    let mut text = "## Warnings\n\n".to_owned();
    for warning in &report.warnings {
        let lanes: Vec<_> = warning.lanes.iter().map(|lane| lane.name()).collect();
        let lanes = if lanes.is_empty() { String::new() } else { format!(" [{}]", lanes.join(", ")) };
        let severity = format!("{:?}", warning.severity).to_lowercase();
        let _ = writeln!(text, "- **{severity}** `{}`{lanes}: {}. {}", warning.code, warning.message, warning.remedy);
    }
    text
}
