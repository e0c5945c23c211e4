//! The figures of a report, ours or the study's: one cell for each lane and load.
//!
//! Rules, tables and comparisons that need no raw samples work on these figures, so they apply to both.

use serde::Serialize;

use crate::model::{
    cell,
    connection::{Policy, TlsVersion},
    lane::Lane,
    link::LinkSpec,
    load::Load,
    machine::Machine,
    report::{LaneInfo, Report},
};

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The name of its file or folder.
    pub name: String,
    /// The format that it was read from.
    pub form: Form,
    /// When the run began.
    pub started_at: String,
    /// Requests asked for in each serial cell.
    pub iterations: usize,
    /// The link that was emulated, if one was.
    pub link: Option<LinkSpec>,
    /// What ran the lanes, as far as their servers said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<LaneServer>,
    /// The figures, in the order of the file's lanes.
    pub cells: Vec<Cell>,
}

/// What ran a lane's model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneServer {
    /// The lane.
    pub lane: Lane,
    /// The execution provider that really ran.
    pub provider: Option<String>,
    /// The precision, if it is lower than the model's own.
    pub precision: Option<String>,
    /// GPU, software, threads.
    pub machine: Machine,
}

/// The format that a summary was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The study's raw JSON: no samples, no connections, no counts of failures.
    Study,
    /// `report.json` of this program.
    Report,
}

/// One lane under one load. Times are in ms; values that the file lacks are `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The lane.
    pub lane: Lane,
    /// The load.
    pub load: Load,
    /// Number of requests.
    pub samples: u64,
    /// Median latency.
    pub p50_ms: f64,
    /// Its 95 % interval.
    pub p50_interval: Option<Interval>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Mean latency.
    pub mean_ms: f64,
    /// Smallest latency.
    pub min_ms: Option<f64>,
    /// Largest latency.
    pub max_ms: Option<f64>,
    /// Images per second, as the file states it.
    pub images_per_s: f64,
    /// Its 95 % interval.
    pub images_interval: Option<Interval>,
    /// Bytes of a request.
    pub request: Bytes,
    /// Bytes of a response.
    pub response_bytes: Option<u64>,
    /// The connection policy, where known.
    pub connection: Option<Policy>,
    /// The TLS version, where known.
    pub tls: Option<TlsVersion>,
    /// TCP connections opened in the cell, where they were counted.
    pub connections: Option<u64>,
    /// The server's own counters.
    pub server: Option<Server>,
}

/// Both ends of an interval.
pub type Interval = (f64, f64);

/// A number of bytes, and whether it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "bytes", rename_all = "kebab-case")]
pub enum Bytes {
    /// Counted, or calculated from the tensor's shape.
    Exact(u64),
    /// A rounded estimate, not a count.
    Nominal(u64),
    /// Not known.
    Unknown,
}

impl Bytes {
    /// The number if it is exact.
    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exact(bytes) => Some(bytes),
            Self::Nominal(_) | Self::Unknown => None,
        }
    }
}

/// A server's counters over a cell; times are means for each request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Server {
    /// Requests that the counters cover.
    pub requests: f64,
    /// Time in the server, without reading the request where that is known.
    pub request_ms: f64,
    /// Compute time of the model.
    pub compute_ms: f64,
    /// Time in the queue, where known.
    pub queue_ms: Option<f64>,
}

impl Server {
    /// Time in the server outside the model: the queue time if it is known, otherwise everything except compute.
    pub fn waiting_ms(&self) -> f64 {
        self.queue_ms.unwrap_or(self.request_ms - self.compute_ms)
    }
}

impl Cell {
    /// Whether the server's mean time can be that of the measured requests: it cannot exceed the client's mean latency.
    pub fn server_is_plausible(&self) -> bool {
        self.server.is_some_and(|server| server.request_ms <= self.mean_ms)
    }

    /// The server's counters, if they are plausible.
    pub fn plausible_server(&self) -> Option<Server> {
        self.server.filter(|_| self.server_is_plausible())
    }

    /// Images in a request.
    pub fn images(&self) -> f64 {
        self.load.batch() as f64
    }
}

impl Summary {
    /// The cell of a lane under a load.
    pub fn cell(&self, lane: Lane, load: Load) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.lane == lane && cell.load == load)
    }

    /// The lanes, each once, in the order of every table.
    pub fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self.cells.iter().map(|cell| cell.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// The serial cells of a lane, by rising batch size.
    pub fn serial(&self, lane: Lane) -> Vec<&Cell> {
        self.sorted(|cell| cell.lane == lane && matches!(cell.load, Load::Serial { .. }), |cell| cell.load.batch())
    }

    /// The concurrent cells of a lane, by rising concurrency.
    pub fn concurrent(&self, lane: Lane) -> Vec<&Cell> {
        self.sorted(|cell| cell.lane == lane && matches!(cell.load, Load::Concurrent { .. }), |c| c.load.workers())
    }

    /// All loads of all lanes, in the order of tables.
    pub fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = self.cells.iter().map(|cell| cell.load).collect();
        loads.sort_unstable();
        loads.dedup();
        loads
    }

    fn sorted(&self, keep: impl Fn(&Cell) -> bool, key: impl Fn(&Cell) -> usize) -> Vec<&Cell> {
        let mut cells: Vec<&Cell> = self.cells.iter().filter(|cell| keep(cell)).collect();
        cells.sort_by_key(|cell| key(cell));
        cells
    }

    /// The figures of one of our reports.
    pub fn from_report(name: &str, report: &Report) -> Self {
        Self {
            name: name.to_owned(),
            form: Form::Report,
            started_at: report.started_at.clone(),
            iterations: report.settings.iterations,
            link: report.settings.link,
            servers: report.lanes.iter().filter_map(LaneServer::from_info).collect(),
            cells: report.cells.iter().filter_map(|cell| Cell::from_report(cell, report)).collect(),
        }
    }
}

impl LaneServer {
    /// `None` if the server said nothing.
    fn from_info(info: &LaneInfo) -> Option<Self> {
        let LaneInfo { lane, effective_provider: provider, precision, machine, .. } = info.clone();
        let known = provider.is_some() || precision.is_some() || machine != Machine::default();
        known.then_some(Self { lane, provider, precision, machine })
    }
}

impl Cell {
    /// The figures of a cell; `None` if no request was completed.
    pub(crate) fn from_report(cell: &cell::Cell, report: &Report) -> Option<Self> {
        let latency = cell.latency_ms.as_ref()?;
        let images_per_s = cell.images_per_s?;
        Some(Self {
            lane: cell.lane,
            load: cell.load,
            samples: cell.completed,
            p50_ms: latency.p50.value,
            p50_interval: Some((latency.p50.low, latency.p50.high)),
            p95_ms: latency.p95.known().map(|p| p.value),
            p99_ms: latency.p99.known().map(|p| p.value),
            mean_ms: latency.mean.value,
            min_ms: Some(latency.min),
            max_ms: Some(latency.max),
            images_per_s: images_per_s.value,
            images_interval: Some((images_per_s.low, images_per_s.high)),
            request: Bytes::Exact(cell.request_bytes as u64),
            response_bytes: Some(cell.response_bytes as u64),
            connection: Some(cell.connection),
            tls: report.lanes.iter().find(|info| info.lane == cell.lane).and_then(|info| info.tls),
            connections: Some((cell.connections + cell.reconnects).max(cell.traffic.opened)),
            server: cell.server.as_ref().map(|server| Server {
                requests: server.requests as f64,
                request_ms: cell.server_ms().unwrap_or(server.request_ms),
                compute_ms: server.compute_infer_ms,
                queue_ms: Some(server.queue_ms),
            }),
        })
    }
}
