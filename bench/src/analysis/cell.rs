//! Computes a cell of the report from its measurements.

use std::time::Duration;

use crate::{
    analysis::{batches::of_independent, stats::bootstrap, timing::latency},
    model::{
        block::{Measured, MeasuredBlock},
        cell::{AfterIdle, BlockSpan, Cell, OpenLoopFigures, ServerSide, Times},
        connection::Traffic,
        counters::Counters,
        estimate::{Estimate, Statistic},
        load::Load,
        machine::BlockMachines,
        record::Recorder,
        sample::Sample,
        samples::Samples,
        waterfall::Waterfall,
    },
};

/// Slices of a concurrent window whose rates give the interval of its throughput.
const WINDOW_SLICES: u32 = 10;

impl Cell {
    /// Computes a cell. `work_ms` is the client's work on one image before it is sent. `None` if nothing was sent.
    pub fn new(measured: Measured, work_ms: Option<Estimate>, seed: u64) -> Option<Self> {
        let Measured { variant, load, request_bytes, warm_up, blocks } = measured;
        let lane = variant.lane;
        let traffic = blocks.iter().fold(Traffic::default(), |sum, block| sum.plus(block.traffic));
        let open = OpenLoopFigures::new(&blocks, load, seed);
        let after_idle = AfterIdle::new(&blocks, seed);
        let latency = latency(&blocks, load, |sample| sample.latency, seed);
        let throughput = throughput(load, &blocks, seed);
        let server = server_side(&blocks);
        // Counters of other requests do not describe the parts of these.
        let counters: Vec<Counters> = match &server {
            Ok(_) => blocks.iter().filter_map(|block| block.server.as_ref().ok().copied()).collect(),
            Err(_) => Vec::new(),
        };
        let mut machines: Vec<BlockMachines> = blocks.iter().map(|block| block.machines.clone()).collect();
        if machines.iter().all(BlockMachines::is_empty) {
            machines.clear();
        }
        let busiest = blocks.iter().map(|block| block.busiest_thread).sum::<Option<Duration>>();
        let Merged { spans, wall, outside, connections, reconnects, cpu, recorder } = Merged::new(blocks)?;
        let samples = Samples::new(recorder.samples());
        let serial = matches!(load, Load::Serial { .. });
        let charged_p50_ms = match (&latency, work_ms) {
            (Some(latency), Some(image)) => Some(latency.p50.plus(image.scaled(load.batch() as f64))),
            _ => None,
        };
        let (server, server_missing) = match server {
            Ok(server) => (Some(server), None),
            Err(reason) => (None, Some(reason)),
        };
        Some(Self {
            lane,
            load,
            connection: variant.connection,
            payload: Some(variant.payload),
            transport: variant.transport,
            traffic,
            times: Times::new(recorder.samples(), seed),
            after_idle,
            open,
            sent: recorder.sent() + outside,
            completed: recorder.samples().len() as u64,
            outside_window: outside,
            abandoned: recorder.abandoned,
            warm_up,
            wall_s: wall.as_secs_f64(),
            client_cpu_s: cpu.map(|cpu| cpu.as_secs_f64()),
            machines,
            client_busiest_thread_s: busiest.map(|cpu| cpu.as_secs_f64()),
            images_per_s: throughput,
            goodput_per_s: None,
            latency_ms: latency,
            charged_p50_ms,
            client_ms: None,
            request_bytes,
            response_bytes: recorder.response_bytes,
            connections,
            reconnects,
            server,
            server_missing,
            waterfall: Waterfall::new(&samples, if serial { &[] } else { &spans }, &counters, seed),
            blocks: spans,
            samples,
            histogram_us: recorder.buckets_us(),
            failures: recorder.failures,
        })
    }
}

impl BlockSpan {
    /// The span of a block whose first sample has this index.
    pub fn new(block: &MeasuredBlock, first: usize) -> Self {
        Self {
            start_s: block.start.as_secs_f64(),
            first,
            samples: block.recorder.samples().len(),
            completed: block.offered.map(|offered| offered.completed_meanwhile),
            wall_s: block.wall.as_secs_f64(),
        }
    }
}

/// All blocks of a cell together.
struct Merged {
    spans: Vec<BlockSpan>,
    wall: Duration,
    outside: u64,
    connections: u64,
    reconnects: u64,
    /// CPU time of this program, if it is known for every block.
    cpu: Option<Duration>,
    recorder: Recorder,
}

impl Merged {
    /// `None` without a block.
    fn new(blocks: Vec<MeasuredBlock>) -> Option<Self> {
        let mut spans = Vec::with_capacity(blocks.len());
        let (mut wall, mut outside, mut connections, mut reconnects) = (Duration::ZERO, 0, 0, 0);
        let cpu = blocks.iter().map(|block| block.cpu).sum::<Option<Duration>>();
        let mut recorder: Option<Recorder> = None;
        for block in blocks {
            spans.push(BlockSpan::new(&block, recorder.as_ref().map_or(0, |r| r.samples().len())));
            wall += block.wall;
            outside += block.outside;
            connections = connections.max(block.connections);
            reconnects += block.reconnects;
            match &mut recorder {
                Some(all) => all.merge(block.recorder),
                None => recorder = Some(block.recorder),
            }
        }
        Some(Self { spans, wall, outside, connections, reconnects, cpu, recorder: recorder? })
    }
}

/// Completed images divided by elapsed time. For a serial load the interval comes from the mean latency, because the
/// rate is its inverse; for windows, from the rates of several of them, or else of their slices.
pub(crate) fn throughput(load: Load, blocks: &[MeasuredBlock], seed: u64) -> Option<Estimate> {
    let wall: Duration = blocks.iter().map(|block| block.wall).sum();
    let samples = || blocks.iter().flat_map(|block| block.recorder.samples());
    // An open loop's samples are the requests scheduled in the window; completions in the window are counted
    // separately.
    let completed_in = |block: &MeasuredBlock| {
        block.offered.map_or(block.recorder.samples().len() as u64, |offered| offered.completed_meanwhile)
    };
    let completed = blocks.iter().map(completed_in).sum::<u64>() as usize;
    if wall.is_zero() || completed == 0 {
        return None;
    }
    let batch = load.batch() as f64;
    let rate = completed as f64 * batch / wall.as_secs_f64();
    match load {
        Load::Serial { .. } => {
            let latencies: Vec<f64> = samples().map(|s| s.latency.as_secs_f64()).collect();
            let mean = bootstrap(&latencies, Statistic::Mean, seed)?;
            Some(Estimate::new(rate, rate * mean.value / mean.high, rate * mean.value / mean.low, completed))
        }
        Load::Concurrent { .. } | Load::Open { .. } => {
            let of_window = |block: &MeasuredBlock| completed_in(block) as f64 * batch / block.wall.as_secs_f64();
            let windows: Vec<f64> = blocks.iter().filter(|block| !block.wall.is_zero()).map(of_window).collect();
            if let Some(mean) = of_independent(&windows) {
                return Some(Estimate::new(rate, mean.low, mean.high, completed));
            }
            let rates: Vec<f64> = blocks
                .iter()
                .flat_map(|block| {
                    let slice = block.wall / WINDOW_SLICES;
                    (0..WINDOW_SLICES).map(move |i| {
                        let from = block.start + slice * i;
                        let ended = |s: &&Sample| (from..from + slice).contains(&s.end());
                        block.recorder.samples().iter().filter(ended).count() as f64 * batch / slice.as_secs_f64()
                    })
                })
                .collect();
            let mean = bootstrap(&rates, Statistic::Mean, seed)?;
            Some(Estimate::new(rate, mean.low, mean.high, completed))
        }
    }
}

fn server_side(blocks: &[MeasuredBlock]) -> Result<ServerSide, String> {
    let mut counters = Counters::default();
    let (mut expected, mut counted) = (0, Some(0));
    // A block without counters does not end those of the others.
    let (known, unknown): (Vec<_>, Vec<_>) = blocks.iter().partition(|block| block.server.is_ok());
    if let (true, Some(Err(reason))) = (known.is_empty(), unknown.first().map(|block| &block.server)) {
        return Err(reason.clone());
    }
    for block in known {
        counters = counters.plus(block.server.as_ref().map_err(Clone::clone)?);
        expected += block.recorder.samples().len() as u64 + block.outside;
        counted = counted.zip(block.counted).map(|(a, b)| a + b);
    }
    let mean_ms = |us: u64| if counters.requests == 0 { 0.0 } else { us as f64 / counters.requests as f64 / 1e3 };
    if counters.requests == 0 && expected > 0 && counted == Some(0) {
        return Err("the server's counters did not change".to_owned());
    }
    Ok(ServerSide {
        requests: counters.requests,
        images: counters.images,
        executions: counters.executions,
        request_ms: mean_ms(counters.request_us),
        queue_ms: mean_ms(counters.queue_us),
        compute_input_ms: mean_ms(counters.compute_input_us),
        compute_infer_ms: mean_ms(counters.compute_infer_us),
        compute_output_ms: mean_ms(counters.compute_output_us),
        expected,
        counted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        arrivals::{Arrivals, Rate},
        block::{Offered, WarmUp},
        lane::Lane,
        variant::Variant,
    };

    fn block(start_ms: u64, latencies_ms: &[u64], wall_ms: u64, server: Counters) -> MeasuredBlock {
        let mut recorder = Recorder::new().unwrap();
        let mut start = Duration::from_millis(start_ms);
        for &latency in latencies_ms {
            let latency = Duration::from_millis(latency);
            recorder.add(Sample { start, latency, ..Sample::default() });
            start += latency;
        }
        MeasuredBlock {
            start: Duration::from_millis(start_ms),
            wall: Duration::from_millis(wall_ms),
            counted: Some(server.requests),
            recorder,
            outside: 0,
            connections: 1,
            reconnects: 0,
            after_idle: None,
            cpu: None,
            busiest_thread: None,
            machines: BlockMachines::default(),
            traffic: Traffic::default(),
            offered: None,
            server: Ok(server),
        }
    }

    fn measured(load: Load, blocks: Vec<MeasuredBlock>) -> Measured {
        Measured {
            variant: Variant::plain(Lane::ONNX_HTTP),
            load,
            request_bytes: 602_112,
            warm_up: WarmUp::default(),
            blocks,
        }
    }

    #[test]
    fn serial_blocks_add_up() {
        let first = Counters { requests: 2, images: 8, executions: 2, compute_infer_us: 10_000, ..Counters::default() };
        let second = Counters { requests: 1, images: 4, executions: 1, compute_infer_us: 2_000, ..Counters::default() };
        let blocks = vec![block(0, &[10, 20], 40, first), block(100, &[30], 40, second)];
        let image = Estimate::new(2.0, 1.5, 2.5, 20);
        let cell = Cell::new(measured(Load::Serial { batch: 4 }, blocks), Some(image), 1).unwrap();
        assert_eq!((cell.sent, cell.completed), (3, 3));
        // 3 requests of 4 images in 80 ms of elapsed time; not 4 / p50.
        assert_eq!(cell.images_per_s.unwrap().value, 150.0);
        assert_eq!(cell.latency_ms.as_ref().unwrap().p50.value, 20.0);
        assert_eq!(cell.charged_p50_ms.unwrap().value, 28.0);
        let server = cell.server.unwrap();
        assert_eq!((server.requests, server.images, server.compute_infer_ms), (3, 12, 4.0));
        assert_eq!((server.expected, server.counted), (3, Some(3)));
        assert_eq!(cell.blocks.iter().map(|b| (b.first, b.samples)).collect::<Vec<_>>(), [(0, 2), (2, 1)]);
    }

    #[test]
    fn a_windows_rate_is_completed_images_divided_by_its_length() {
        let counters = Counters { requests: 100, ..Counters::default() };
        let block = block(1_000, &[10; 100], 1_001, counters);
        let cell = Cell::new(measured(Load::Concurrent { concurrency: 1, batch: 1 }, vec![block]), None, 1).unwrap();
        let rate = cell.images_per_s.unwrap();
        assert!((rate.value - 100.0 / 1.001).abs() < 1e-9);
        assert!(rate.low >= 89.0 && rate.high <= 110.0, "steady work has a narrow interval: {rate:?}");
    }

    /// Under backlog a request completes long after the window in which it was scheduled.
    #[test]
    fn throughput_under_backlog_counts_the_completions_of_each_window() {
        let open = |i: u64, completed_meanwhile| {
            let mut block = block(1_000 * i, &[60_000; 80], 1_000, Counters::default());
            block.offered = Some(Offered { scheduled: 80, completed_meanwhile, ..Offered::default() });
            block
        };
        let blocks: Vec<_> = [50, 52, 48, 51, 49].into_iter().zip(0..).map(|(n, i)| open(i, n)).collect();
        let rate = Rate::per_second(80.0).unwrap();
        let load = Load::Open { arrivals: Arrivals::Constant, rate, batch: 1 };
        let rate = throughput(load, &blocks, 1).unwrap();
        assert_eq!(rate.value, 50.0);
        assert!((rate.high - 51.96).abs() < 0.01 && (rate.low - 48.04).abs() < 0.01, "{rate:?}");
    }

    #[test]
    fn a_failed_reading_ends_only_the_counters_of_its_block() {
        let counters = Counters { requests: 2, compute_infer_us: 10_000, ..Counters::default() };
        let mut blocks = vec![block(0, &[10, 20], 40, counters), block(100, &[30], 40, counters)];
        blocks[1].server = Err("no answer within 5.0 s".into());
        let cell = |blocks| Cell::new(measured(Load::Serial { batch: 1 }, blocks), None, 1).unwrap();
        let server = cell(blocks.clone()).server.unwrap();
        assert_eq!((server.requests, server.expected, server.counted, server.compute_infer_ms), (2, 2, Some(2), 5.0));
        blocks.remove(0);
        assert_eq!(cell(blocks).server_missing.unwrap(), "no answer within 5.0 s");
    }

    #[test]
    fn unchanged_counters_are_not_zero_time() {
        let cell =
            Cell::new(measured(Load::Serial { batch: 1 }, vec![block(0, &[5], 5, Counters::default())]), None, 1);
        let cell = cell.unwrap();
        assert_eq!(
            (cell.server, cell.server_missing.unwrap().as_str()),
            (None, "the server's counters did not change")
        );
    }
}
