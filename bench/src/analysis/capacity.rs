//! Peak throughput, the knee, and goodput: how far a lane's throughput follows its load. Pure functions.
//!
//! The knee is the load with the highest power, throughput divided by mean response time (Kleinrock, "Power and
//! deterministic rules of thumb for probabilistic problems in computer communications", ICC 1979). Below it more load mainly
//! brings throughput, above it mainly latency. In an M/M/1 queue it is half the peak, where latency has doubled. It needs no
//! threshold and no tail percentile.

use crate::{
    analysis::{
        batches::of_independent,
        stats::{bootstrap, mean},
    },
    model::{
        arrivals::Arrivals,
        capacity::{Capacity, Point},
        cell::{BlockSpan, Cell},
        estimate::{Estimate, Statistic},
        load::Load,
        report::Report,
    },
};

/// Images in answers within `bound_ms`, divided by measured time; `None` if nothing was measured. The latency of an open
/// loop counts from the intended send time. Blocks are the observations of the interval if there are three of them.
pub fn goodput(cell: &Cell, bound_ms: f64, seed: u64) -> Option<Estimate> {
    let within = |us: &f64| f64::from(*us <= bound_ms * 1e3);
    let images = cell.load.batch() as f64;
    let of_block = |block: &BlockSpan| {
        let latencies = cell.samples.latency_us.get(block.first..block.first + block.samples)?;
        (block.wall_s > 0.0).then(|| latencies.iter().map(within).sum::<f64>() * images / block.wall_s)
    };
    let in_bound: Vec<f64> = cell.samples.latency_us.iter().map(within).collect();
    let share = mean(&in_bound)?;
    let sent_per_s = in_bound.len() as f64 * images / cell.wall_s;
    let value = Some(share * sent_per_s).filter(|rate| rate.is_finite())?;
    let blocks: Vec<f64> = cell.blocks.iter().filter_map(of_block).collect();
    let interval = match of_independent(&blocks) {
        Some(blocks) => blocks,
        None => bootstrap(&in_bound, Statistic::Mean, seed)?.scaled(sent_per_s),
    };
    Some(Estimate::new(value, interval.low.max(0.0), interval.high, in_bound.len()))
}

/// The capacity of each variant of each lane, for each kind of load of which at least two were measured.
pub fn capacities(report: &Report) -> Vec<Capacity> {
    series_by_load(report).iter().filter_map(|cells| capacity(cells)).collect()
}

/// The cells of each series: one variant of a lane, one kind of load, one batch size; ascending by load.
pub fn series_by_load(report: &Report) -> Vec<Vec<&Cell>> {
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in report.cells.iter().filter(|cell| kind(cell.load).is_some()) {
        let same = |other: &Cell| series(other) == series(cell);
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| same(first))) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups.iter_mut().for_each(|group| group.sort_by_key(|cell| cell.load));
    groups
}

/// What the cells of one series have in common.
fn series(cell: &Cell) -> impl PartialEq + use<> {
    (cell.lane, cell.connection, cell.payload, cell.transport, kind(cell.load), cell.load.batch())
}

/// The kind of a load that can be raised: open loop with its arrivals, or closed loop; `None` for others.
fn kind(load: Load) -> Option<Option<Arrivals>> {
    match load {
        Load::Serial { .. } | Load::Open { arrivals: Arrivals::Replay, .. } => None,
        Load::Concurrent { .. } => Some(None),
        Load::Open { arrivals, .. } => Some(Some(arrivals)),
    }
}

fn capacity(cells: &[&Cell]) -> Option<Capacity> {
    let highest = cells.last()?.load;
    let point = |cell: &Cell, images_per_s: Option<Estimate>| {
        let mean_ms = cell.latency_ms.as_ref()?.mean.value;
        Some(Point { load: cell.load, images_per_s: images_per_s?, mean_ms, at_highest_load: cell.load == highest })
    };
    let points: Vec<Point> = cells.iter().filter_map(|cell| point(cell, cell.images_per_s)).collect();
    let [lowest, _, ..] = points[..] else { return None };
    let good: Vec<Point> = cells.iter().filter_map(|cell| point(cell, cell.goodput_per_s)).collect();
    let knee = highest_by(&points, |point| point.images_per_s.value / point.mean_ms)?;
    let first = cells.first()?;
    Some(Capacity {
        lane: first.lane,
        connection: first.connection,
        payload: first.payload,
        transport: first.transport,
        peak: highest_by(&points, |point| point.images_per_s.value)?,
        knee,
        knee_slowdown: knee.mean_ms / lowest.mean_ms,
        goodput: highest_by(&good, |point| point.images_per_s.value),
    })
}

/// The point with the highest value; of equal ones the lowest load.
fn highest_by(points: &[Point], value: impl Fn(&Point) -> f64) -> Option<Point> {
    points.iter().rev().max_by(|a, b| value(a).total_cmp(&value(b))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::lane::Lane};

    /// A report of one lane whose cells have these loads, rates and mean latencies.
    fn report(points: &[(Load, f64, f64)]) -> Report {
        let mut report = fixture::report();
        let template = report.cells.iter().find(|cell| cell.lane == Lane::ONNX_HTTP).unwrap().clone();
        let cell = |&(load, rate, mean_ms): &(Load, f64, f64)| {
            let mut cell = Cell { load, ..template.clone() };
            cell.images_per_s = Some(Estimate::new(rate, rate, rate, 9));
            cell.latency_ms.as_mut().unwrap().mean = Estimate::new(mean_ms, mean_ms, mean_ms, 9);
            cell
        };
        report.cells = points.iter().map(cell).collect();
        report
    }

    fn concurrent(concurrency: usize, batch: usize) -> Load {
        Load::Concurrent { concurrency, batch }
    }

    /// Two instances of 10 ms behind 10 ms of network: four workers fill them, and two have the most power.
    #[test]
    fn a_closed_loop_has_its_knee_where_latency_begins_to_rise() {
        let points = [
            (concurrent(1, 1), 50.0, 20.0),
            (concurrent(2, 1), 100.0, 20.0),
            (concurrent(4, 1), 198.0, 20.2),
            (concurrent(8, 1), 200.0, 40.0),
            (concurrent(16, 1), 199.0, 80.0),
        ];
        let found = capacities(&report(&points));
        let [capacity] = &found[..] else { panic!("{found:?}") };
        assert_eq!((capacity.peak.load, capacity.knee.load), (concurrent(8, 1), concurrent(4, 1)));
        assert!(!capacity.peak.at_highest_load && (capacity.knee_slowdown - 1.01).abs() < 1e-9);
        assert_eq!(capacity.goodput, None);
    }

    /// M/M/1: the mean time in the system is service / (1 - utilisation).
    #[test]
    fn an_open_loop_has_its_knee_at_half_the_capacity() {
        let at = |per_s: f64| {
            let rate = crate::model::arrivals::Rate::per_second(per_s).unwrap();
            (Load::Open { arrivals: Arrivals::Poisson, rate, batch: 1 }, per_s, 10.0 / (1.0 - per_s / 100.0))
        };
        let points: Vec<_> = (1..10).map(|tenth| at(f64::from(tenth) * 10.0)).collect();
        let found = capacities(&report(&points));
        assert_eq!(found[0].knee.images_per_s.value, 50.0);
        assert!(found[0].peak.at_highest_load, "higher rates were not measured");
    }

    #[test]
    fn batch_sizes_and_kinds_of_load_have_a_capacity_each() {
        let rate = |per_s| crate::model::arrivals::Rate::per_second(per_s).unwrap();
        let open = |per_s| Load::Open { arrivals: Arrivals::Constant, rate: rate(per_s), batch: 1 };
        let loads = [concurrent(1, 1), concurrent(4, 1), concurrent(1, 8), concurrent(4, 8), open(5.0), open(9.0)];
        let points = loads.map(|load| (load, 10.0 * load.workers() as f64, 20.0));
        assert_eq!(capacities(&report(&points)).len(), 3);
        assert_eq!(capacities(&report(&points[..1])), [], "a single load has no knee");
        assert_eq!(
            capacities(&report(&[(Load::Serial { batch: 1 }, 1.0, 1.0), (Load::Serial { batch: 2 }, 1.0, 1.0)])),
            []
        );
    }

    #[test]
    fn goodput_counts_the_images_of_answers_within_the_bound() {
        let report = fixture::report();
        let cell = report.cells.iter().find(|cell| cell.load == concurrent(8, 1)).unwrap();
        let mut sorted = cell.samples.latency_us.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let half = sorted[sorted.len() / 2 - 1] / 1e3;
        let all = goodput(cell, f64::MAX, 1).unwrap();
        assert!((all.value - cell.images_per_s.unwrap().value).abs() < 1e-9 * all.value, "{all:?}");
        let found = goodput(cell, half, 1).unwrap();
        assert!((found.value - all.value / 2.0).abs() < 1e-9 * all.value, "{found:?}");
        assert!(found.low < found.value && found.value < found.high);
        assert_eq!(goodput(cell, 0.0, 1).unwrap().value, 0.0);
    }
}
