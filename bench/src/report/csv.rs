//! Writes results as CSV: one line for each cell, unrounded, for spreadsheets and data frames.
//!
//! There is one form, for `report.csv`, for saved reports and for the study's raw data; what a result lacks is empty.

use crate::{
    analysis::summary::{self, Interval, Summary},
    model::{cell::Cell, estimate::Estimate, load::Load, part::Part, report::Report},
    report::exporter::{ExportError, Exporter},
};

/// The CSV format.
pub struct Csv;

impl Exporter for Csv {
    fn file_name(&self) -> &'static str {
        "report.csv"
    }

    fn export(&self, report: &Report) -> Result<String, ExportError> {
        write(&rows(&report.started_at, report))
    }
}

/// One line: names and values, in the order of the columns.
pub(crate) type Row = Vec<(String, String)>;

/// Lines with a head, which is that of the first line: all have the same columns.
///
/// # Errors
/// Never: the lines are written to memory.
pub(crate) fn write(rows: &[Row]) -> Result<String, ExportError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if let Some(first) = rows.first() {
        writer.write_record(first.iter().map(|(name, _)| name))?;
    }
    for row in rows {
        writer.write_record(row.iter().map(|(_, value)| value))?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of a report, whose run is called `run`.
pub(crate) fn rows(run: &str, report: &Report) -> Vec<Row> {
    let row = |cell: &Cell| {
        let figures = summary::Cell::from_report(cell, report);
        let (lane, load) = (cell.lane.to_string(), cell.load);
        Columns::default().place(run, lane, load).figures(figures.as_ref()).details(Some((report, cell))).0
    };
    report.cells.iter().map(row).collect()
}

/// The lines of imported figures.
pub(crate) fn imported(summary: &Summary) -> Vec<Row> {
    let row = |cell: &summary::Cell| {
        let (lane, load) = (cell.lane.to_string(), cell.load);
        Columns::default().place(&summary.name, lane, load).figures(Some(cell)).details(None).0
    };
    summary.cells.iter().map(row).collect()
}

/// The columns so far.
#[derive(Default)]
struct Columns(Row);

impl Columns {
    fn put(&mut self, name: &str, value: Option<impl ToString>) {
        self.0.push((name.to_owned(), value.map_or(String::new(), |value| value.to_string())));
    }

    fn interval(&mut self, name: &str, interval: Option<Interval>) {
        self.put(&format!("{name}_low"), interval.map(|(low, _)| low));
        self.put(&format!("{name}_high"), interval.map(|(_, high)| high));
    }

    /// Which cell it is.
    fn place(mut self, run: &str, lane: String, load: Load) -> Self {
        self.put("run", Some(run));
        self.put("lane", Some(lane));
        let kind = match load {
            Load::Serial { .. } => "serial",
            Load::Concurrent { .. } => "concurrent",
            Load::Open { .. } => "open",
        };
        self.put("load", Some(kind));
        self.put("batch", Some(load.batch()));
        self.put("concurrency", Some(load.workers()));
        self
    }

    /// What imported figures have, too.
    fn figures(mut self, cell: Option<&summary::Cell>) -> Self {
        self.put("samples", cell.map(|cell| cell.samples));
        self.put("p50_ms", cell.map(|cell| cell.p50_ms));
        self.interval("p50_ms", cell.and_then(|cell| cell.p50_interval));
        self.put("p95_ms", cell.and_then(|cell| cell.p95_ms));
        self.put("p99_ms", cell.and_then(|cell| cell.p99_ms));
        self.put("mean_ms", cell.map(|cell| cell.mean_ms));
        self.put("min_ms", cell.and_then(|cell| cell.min_ms));
        self.put("max_ms", cell.and_then(|cell| cell.max_ms));
        self.put("images_per_s", cell.map(|cell| cell.images_per_s));
        self.interval("images_per_s", cell.and_then(|cell| cell.images_interval));
        self.put("request_bytes", cell.and_then(|cell| cell.request.exact()));
        self.put("response_bytes", cell.and_then(|cell| cell.response_bytes));
        let server = cell.and_then(|cell| cell.server);
        self.put("server_requests", server.map(|server| server.requests));
        self.put("server_request_ms", server.map(|server| server.request_ms));
        self.put("server_compute_ms", server.map(|server| server.compute_ms));
        self.put("server_queue_ms", server.and_then(|server| server.queue_ms));
        self
    }

    /// What only a report has.
    fn details(mut self, found: Option<(&Report, &Cell)>) -> Self {
        let cell = found.map(|(_, cell)| cell);
        let lane = found.and_then(|(report, cell)| report.lanes.iter().find(|info| info.lane == cell.lane));
        self.put("effective_provider", lane.and_then(|info| info.effective_provider.clone()));
        self.put("rate_per_s", cell.and_then(|cell| cell.load.rate()));
        self.put("arrivals", cell.and_then(|cell| cell.load.arrivals()));
        self.put("connection", cell.map(|cell| cell.connection));
        self.put("payload", cell.and_then(|cell| cell.payload));
        self.put("transport", cell.map(|cell| cell.transport));
        type Count = fn(&Cell) -> u64;
        let counts: [(&str, Count); 10] = [
            ("sent", |cell| cell.sent),
            ("completed", |cell| cell.completed),
            ("failed", |cell| cell.failures.count),
            ("outside_window", |cell| cell.outside_window),
            ("abandoned", |cell| cell.abandoned),
            ("connections", |cell| cell.connections),
            ("reconnects", |cell| cell.reconnects),
            ("opened", |cell| cell.traffic.opened),
            ("sent_bytes", |cell| cell.traffic.sent_bytes),
            ("received_bytes", |cell| cell.traffic.received_bytes),
        ];
        for (name, count) in counts {
            self.put(name, cell.map(count));
        }
        self.put("wall_s", cell.map(|cell| cell.wall_s));
        let latency = cell.and_then(|cell| cell.latency_ms.as_ref());
        let ends = |estimate: Estimate| (estimate.low, estimate.high);
        self.interval("mean_ms", latency.map(|latency| ends(latency.mean)));
        self.interval("p95_ms", latency.and_then(|latency| latency.p95.known()).map(ends));
        self.interval("p99_ms", latency.and_then(|latency| latency.p99.known()).map(ends));
        self.put("p95_at_most_ms", latency.and_then(|latency| latency.p95_at_most));
        self.put("p99_at_most_ms", latency.and_then(|latency| latency.p99_at_most));
        let charged = cell.and_then(|cell| cell.charged_p50_ms);
        self.put("charged_p50_ms", charged.map(|charged| charged.value));
        self.interval("charged_p50_ms", charged.map(ends));
        for part in Part::ALL {
            let waterfall = cell.and_then(|cell| cell.waterfall.as_ref());
            self.put(&format!("{}_ms", part.name()), waterfall.and_then(|waterfall| waterfall.ms(part)));
        }
        let goodput = cell.and_then(|cell| cell.goodput_per_s);
        self.put("goodput_per_s", goodput.map(|goodput| goodput.value));
        self.interval("goodput_per_s", goodput.map(ends));
        let scenario = found.and_then(|(report, cell)| Some((report.scenario.as_ref()?, cell)));
        let result = scenario.and_then(|(scenario, cell)| scenario.of(cell));
        self.put("scenario", scenario.map(|(scenario, _)| scenario.scenario.name()));
        self.put("scenario_unit", scenario.map(|(scenario, _)| scenario.scenario.unit()));
        self.put("scenario_result", result.and_then(|result| result.value));
        self.put("scenario_validity", result.map(|result| result.validity()));
        self.put("scenario_reasons", result.map(|result| result.invalid.join("; ")));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture,
        model::{lane::Lane, load::Load},
    };

    /// A script that reads one of them reads the other.
    #[test]
    fn reports_and_imported_figures_have_the_same_columns() {
        let report = fixture::report();
        let names = |row: &Row| row.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let ours = rows("run", &report);
        let theirs = imported(&Summary::from_report("run", &report));
        assert_eq!(names(&ours[0]), names(&theirs[0]));
        let mut once = names(&ours[0]);
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ours[0].len(), "each column has a name of its own");
        let value = |row: &Row, name: &str| row.iter().find(|(column, _)| column == name).unwrap().1.clone();
        for name in ["lane", "load", "batch", "p50_ms", "images_per_s_high", "server_compute_ms"] {
            assert_eq!(value(&ours[1], name), value(&theirs[1], name), "{name}");
        }
        assert_eq!([value(&ours[1], "payload"), value(&theirs[1], "payload")], ["fp32", ""]);
    }

    #[test]
    fn a_cell_without_answers_has_a_line() {
        let mut report = fixture::report();
        let load = Load::Serial { batch: 1 };
        let cell = report.cells.iter_mut().find(|cell| (cell.lane, cell.load) == (Lane::JPEG, load)).unwrap();
        (cell.latency_ms, cell.images_per_s, cell.failures.count) = (None, None, 9);
        let lines = rows("run", &report);
        assert_eq!(lines.len(), report.cells.len());
        assert!(lines[0].contains(&("failed".to_owned(), "9".to_owned())), "{:?}", lines[0]);
    }
}
