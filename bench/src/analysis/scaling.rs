//! Finds the resource that ends the scaling of a lane, by utilisation and Little's law. Pure functions.
//!
//! The resource with the highest utilisation bounds the throughput (bottleneck law; Denning and Buzen, "The operational
//! analysis of queueing network models", 1978). Requests in flight are throughput times latency (Little 1961), in the whole
//! system and at each place: where they gather, they wait.

use crate::{
    analysis::{
        capacity::series_by_load,
        checks::load::{CONCURRENCY_REACHED, in_flight},
        stats::mean,
    },
    model::{
        cell::Cell,
        link::Direction,
        load::Load,
        machine::BlockMachines,
        report::{LaneInfo, Report},
    },
};

/// Share of the time from which on a resource is busy enough to end the scaling.
const BUSY: f64 = 0.8;
/// Throughput still rises if it grows by more than this power of the load between the two highest loads.
const STILL_RISES: f64 = 0.5;
/// Scaling ends at the lowest load with this share of the peak.
const NEARLY_PEAK: f64 = 0.95;

/// A resource that requests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The server's GPU.
    Gpu,
    /// The server's CPU.
    Cpu,
    /// The server's GPU or CPU: it does not state its provider.
    Device,
    /// The network.
    Link,
    /// The queue for an instance of the model, while the device is not busy.
    Queue,
    /// This program.
    Client,
}

/// A place where a request spends its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the queue for an instance.
    Queue,
    /// In the model.
    Model,
    /// Elsewhere in the server.
    Server,
    /// Outside the server: on the link and in the client.
    Outside,
}

impl Place {
    /// All places.
    pub const ALL: [Self; 4] = [Self::Queue, Self::Model, Self::Server, Self::Outside];
}

/// What ends the scaling, and the reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Throughput still rises at the highest load; the named resource is the busiest so far.
    NotReached(Option<Resource>),
    /// The resource is busy for this share of the time, more than any other.
    Busy(Resource, f64),
    /// All instances are busy, but the GPU is not.
    Instances,
    /// The client's workers do not keep their requests in flight.
    WorkersIdle,
    /// No utilisation is high, but the latency grew mainly at this place, by this share of its growth.
    Waits(Option<Resource>, Place, f64),
    /// Nothing that was measured shows it.
    Unknown,
}

impl End {
    /// The resource; `None` if it is not known.
    pub fn resource(self) -> Option<Resource> {
        match self {
            Self::Busy(resource, _) => Some(resource),
            Self::Instances => Some(Resource::Queue),
            Self::WorkersIdle => Some(Resource::Client),
            Self::Waits(resource, ..) | Self::NotReached(resource) => resource,
            Self::Unknown => None,
        }
    }
}

/// What is known of a lane under one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The load.
    pub load: Load,
    /// Images per second.
    pub images_per_s: f64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Mean latency, in ms.
    pub latency_ms: f64,
    /// Mean time at each place in ms, in the order of [`Place::ALL`]; `None` without the server's counters.
    pub places_ms: Option<[f64; 4]>,
    /// Runs of the model per second, and the time of a run in ms.
    pub runs: Option<(f64, f64)>,
    /// Instances of the model, where known.
    pub instances: Option<u32>,
    /// CPU time of the client as a share of all its cores, and that of its busiest thread as a share of one.
    pub client: [Option<f64>; 2],
    /// Bits per second on an emulated link and the rate of the link, up and down, where it has one.
    pub link: [Option<(f64, f64)>; 2],
    /// GPU utilisation, 0 to 1, where the server reports it.
    pub gpu: Option<f64>,
    /// Requests that the workers of a closed loop had in flight, as a share of the workers.
    pub kept_in_flight: Option<f64>,
}

/// A lane under rising loads.
#[derive(Clone, Debug)]
pub struct Scaling<'a> {
    /// A cell of the lane.
    pub cell: &'a Cell,
    /// The lane's description.
    pub info: Option<&'a LaneInfo>,
    /// The evidence at each load, ascending; at least two.
    pub steps: Vec<Evidence>,
    /// What ends the scaling.
    pub end: End,
}

impl Evidence {
    /// `None` if no request was completed.
    fn new(cell: &Cell, report: &Report, instances: Option<u32>) -> Option<Self> {
        let images_per_s = cell.images_per_s?.value;
        let requests_per_s = images_per_s / cell.load.batch() as f64;
        let latency_ms = cell.latency_ms.as_ref()?.mean.value;
        let of_wall = |seconds: Option<f64>| seconds.map(|seconds| seconds / cell.wall_s);
        let cores = report.environment.cores.max(1) as f64;
        let requests = (cell.completed + cell.outside_window).max(1) as f64;
        let rates = [(Direction::Up, cell.traffic.sent_bytes), (Direction::Down, cell.traffic.received_bytes)];
        let link = rates.map(|(direction, bytes)| {
            let rate = report.settings.link?.bytes_per_s(direction)? * 8.0;
            Some((bytes as f64 / requests * requests_per_s * 8.0, rate))
        });
        let workers = matches!(cell.load, Load::Concurrent { .. }).then(|| cell.load.workers() as f64);
        Some(Self {
            load: cell.load,
            images_per_s,
            requests_per_s,
            latency_ms,
            places_ms: places(cell, latency_ms),
            runs: runs(cell),
            instances,
            client: [of_wall(cell.client_cpu_s).map(|share| share / cores), of_wall(cell.client_busiest_thread_s)],
            link,
            gpu: gpu(cell),
            kept_in_flight: workers.and_then(|workers| Some(in_flight(cell)? / workers)),
        })
    }

    /// Requests in flight on average.
    pub fn in_flight(&self) -> f64 {
        self.requests_per_s * self.latency_ms / 1e3
    }

    /// Instances that run at the same time on average.
    pub fn busy_instances(&self) -> Option<f64> {
        self.runs.map(|(per_s, ms)| per_s * ms / 1e3)
    }

    /// The share of the instances that are busy, if their number is known. Runs that began before a window count as a whole
    /// in it, so in short windows the quotient may exceed 1.
    pub fn instances_busy(&self) -> Option<f64> {
        Some((self.busy_instances()? / f64::from(self.instances.filter(|n| *n > 0)?)).min(1.0))
    }

    /// The known utilisations; `device` runs the model.
    fn utilisations(&self, device: Resource) -> Vec<(Resource, f64)> {
        let client = self.client.into_iter().flatten().reduce(f64::max);
        let link = self.link.into_iter().flatten().map(|(bits, rate)| bits / rate).reduce(f64::max);
        let known = [
            (Resource::Gpu, self.gpu),
            (device, self.instances_busy()),
            (Resource::Link, link),
            (Resource::Client, client),
        ];
        known.into_iter().filter_map(|(resource, share)| Some((resource, share?))).collect()
    }
}

/// Mean time of a request at each place, in ms.
fn places(cell: &Cell, latency_ms: f64) -> Option<[f64; 4]> {
    let server = cell.server.as_ref()?;
    let model = server.compute_input_ms + server.compute_infer_ms + server.compute_output_ms;
    let inside = cell.server_ms()?;
    let elsewhere = (inside - server.queue_ms - model).max(0.0);
    let outside = (latency_ms - server.queue_ms - model - elsewhere).max(0.0);
    Some([server.queue_ms, model, elsewhere, outside])
}

/// The utilisation of the busiest GPU, mean over the blocks; `None` if the server reports none.
fn gpu(cell: &Cell) -> Option<f64> {
    let busiest = |block: &BlockMachines| block.gpus.iter().filter_map(|gpu| gpu.utilization).reduce(f64::max);
    mean(&cell.machines.iter().filter_map(busiest).collect::<Vec<_>>())
}

/// The number of instances by the model's configuration, `2 × KIND_GPU`.
fn instances(info: &LaneInfo) -> Option<u32> {
    let group = |text: &str| text.split_once(" × ")?.0.parse::<u32>().ok();
    info.machine.instances.as_deref()?.split(", ").filter_map(group).reduce(|sum, count| sum + count)
}

/// Runs of the model per second, and the time of one in ms. A request counts the time of the run that it is a part of.
fn runs(cell: &Cell) -> Option<(f64, f64)> {
    let server = cell.server.as_ref().filter(|server| server.requests > 0 && server.executions > 0)?;
    let run_ms = server.compute_input_ms + server.compute_infer_ms + server.compute_output_ms;
    Some((server.executions as f64 / cell.wall_s, run_ms))
}

/// What ends the scaling of each series of loads in a report. `instances` is the number of instances of lanes whose server
/// does not state it.
pub fn scalings(report: &Report, instances: Option<u32>) -> Vec<Scaling<'_>> {
    series_by_load(report).iter().filter_map(|cells| Scaling::new(cells, report, instances)).collect()
}

/// The device that the model runs on, by the effective provider.
fn device(info: &LaneInfo) -> Resource {
    match info.effective_provider.as_deref() {
        Some(provider) if provider.starts_with("CPU") => Resource::Cpu,
        Some(_) => Resource::Gpu,
        None => Resource::Device,
    }
}

/// What ends the scaling; `None` with fewer than two loads.
fn end(steps: &[Evidence], device: Resource, link: bool) -> Option<End> {
    let [before, last] = steps.last_chunk::<2>()?;
    let first = steps.first()?;
    let busiest = last.utilisations(device).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let gain = (last.images_per_s / before.images_per_s).ln() / (size(last.load) / size(before.load)).ln();
    if gain > STILL_RISES {
        return Some(End::NotReached(busiest.map(|(resource, _)| resource)));
    }
    Some(match busiest {
        // Instances wait for a GPU that is busy, or the GPU waits for instances.
        Some((resource, share)) if share >= BUSY => match last.gpu {
            Some(gpu) if resource == device && gpu < BUSY => End::Instances,
            _ => End::Busy(resource, share),
        },
        _ if last.kept_in_flight.is_some_and(|share| share < CONCURRENCY_REACHED) => End::WorkersIdle,
        _ => waits(first, last, device, link),
    })
}

/// The place where latency grew the most, if that is most of its growth.
fn waits(first: &Evidence, last: &Evidence, device: Resource, link: bool) -> End {
    let (Some(few), Some(many)) = (first.places_ms, last.places_ms) else { return End::Unknown };
    let growth = last.latency_ms - first.latency_ms;
    let grew = Place::ALL.into_iter().zip(few.into_iter().zip(many)).map(|(place, (few, many))| (place, many - few));
    match grew.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((place, ms)) if growth > 0.0 && ms >= growth / 2.0 => {
            let resource = match place {
                Place::Queue => Some(Resource::Queue),
                Place::Model => Some(device),
                Place::Server => Some(Resource::Cpu),
                Place::Outside => link.then_some(Resource::Link),
            };
            End::Waits(resource, place, (ms / growth).min(1.0))
        }
        _ => End::Unknown,
    }
}

/// How large a load is, in workers or requests per second.
fn size(load: Load) -> f64 {
    match load {
        Load::Open { rate, .. } => rate.get(),
        Load::Serial { .. } | Load::Concurrent { .. } => load.workers() as f64,
    }
}

impl<'a> Scaling<'a> {
    /// `None` with fewer than two loads.
    fn new(cells: &[&'a Cell], report: &'a Report, instances: Option<u32>) -> Option<Self> {
        let cell = *cells.first()?;
        let info = report.lanes.iter().find(|info| info.lane == cell.lane);
        let instances = info.and_then(self::instances).or(instances);
        let steps: Vec<_> = cells.iter().filter_map(|cell| Evidence::new(cell, report, instances)).collect();
        let device = info.map_or(Resource::Device, device);
        let end = end(&steps, device, report.settings.link.is_some())?;
        Some(Self { cell, info, steps, end })
    }

    /// The lowest load that reaches nearly the highest throughput.
    pub fn ends_at(&self) -> Option<&Evidence> {
        let peak = self.peak();
        self.steps.iter().find(|step| step.images_per_s >= NEARLY_PEAK * peak)
    }

    /// The highest throughput, in images per second.
    pub fn peak(&self) -> f64 {
        self.steps.iter().map(|step| step.images_per_s).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests;
