//! Writes `report.csv`: one line for each cell, unrounded, for spreadsheets and data frames.

use crate::{
    model::{cell::Cell, estimate::Estimate, part::Part, report::Report},
    report::exporter::{ExportError, Exporter},
};

/// The CSV format.
pub struct Csv;

impl Exporter for Csv {
    fn file_name(&self) -> &'static str {
        "report.csv"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names: Vec<String> = report
            .cells
            .first()
            .map_or_else(Vec::new, |cell| row(report, cell).into_iter().map(|(name, _)| name).collect());
        writer.write_record(&names)?;
        for cell in &report.cells {
            writer.write_record(row(report, cell).into_iter().map(|(_, value)| value))?;
        }
        let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn row(report: &Report, cell: &Cell) -> Vec<(String, String)> {
    let mut row = Vec::new();
    let mut put = |name: &str, value: String| row.push((name.to_owned(), value));
    let provider = report.lanes.iter().find(|info| info.lane == cell.lane).and_then(|l| l.effective_provider.clone());
    put("lane", cell.lane.to_string());
    put("effective_provider", provider.unwrap_or_default());
    put("batch", cell.load.batch().to_string());
    put("workers", cell.load.workers().to_string());
    put("load", cell.load.to_string());
    put("connection", cell.connection.to_string());
    put("payload", cell.payload.map_or(String::new(), |payload| payload.to_string()));
    put("transport", cell.transport.to_string());
    for (name, count) in [
        ("sent", cell.sent),
        ("completed", cell.completed),
        ("failed", cell.failures.count),
        ("outside_window", cell.outside_window),
        ("abandoned", cell.abandoned),
        ("connections", cell.connections),
        ("reconnects", cell.reconnects),
        ("opened", cell.traffic.opened),
        ("sent_bytes", cell.traffic.sent_bytes),
        ("received_bytes", cell.traffic.received_bytes),
    ] {
        put(name, count.to_string());
    }
    put("request_bytes", cell.request_bytes.to_string());
    put("response_bytes", cell.response_bytes.to_string());
    put("wall_s", cell.wall_s.to_string());
    let mut estimate = |name: &str, estimate: Option<Estimate>| {
        let text = |of: fn(Estimate) -> f64| estimate.map_or(String::new(), |e| of(e).to_string());
        put(name, text(|e| e.value));
        put(&format!("{name}_low"), text(|e| e.low));
        put(&format!("{name}_high"), text(|e| e.high));
    };
    let latency = cell.latency_ms.as_ref();
    estimate("images_per_s", cell.images_per_s);
    estimate("goodput_per_s", cell.goodput_per_s);
    estimate("mean_ms", latency.map(|l| l.mean));
    estimate("p50_ms", latency.map(|l| l.p50));
    estimate("p95_ms", latency.and_then(|l| l.p95.known()));
    estimate("p99_ms", latency.and_then(|l| l.p99.known()));
    estimate("charged_p50_ms", cell.charged_p50_ms);
    let at_most = |ms: Option<f64>| ms.map_or(String::new(), |ms| ms.to_string());
    put("p95_at_most_ms", at_most(latency.and_then(|l| l.p95_at_most)));
    put("p99_at_most_ms", at_most(latency.and_then(|l| l.p99_at_most)));
    put("min_ms", latency.map_or(String::new(), |l| l.min.to_string()));
    put("max_ms", latency.map_or(String::new(), |l| l.max.to_string()));
    for part in Part::ALL {
        let ms = cell.waterfall.as_ref().and_then(|waterfall| waterfall.ms(part));
        put(&format!("{}_ms", part.name()), ms.map_or(String::new(), |ms| ms.to_string()));
    }
    if let Some(scenario) = &report.scenario {
        let result = scenario.of(cell);
        put("scenario", scenario.scenario.name().into());
        put("scenario_unit", scenario.scenario.unit().into());
        put("scenario_result", result.and_then(|result| result.value).map_or(String::new(), |value| value.to_string()));
        put("scenario_validity", result.map_or(String::new(), |result| result.validity().into()));
        put("scenario_reasons", result.map_or(String::new(), |result| result.invalid.join("; ")));
    }
    row
}
