use super::*;
use crate::{
    fixture,
    model::{
        block::{Measured, MeasuredBlock, WarmUp},
        cell::BlockSpan,
        connection::Traffic,
        counters::Counters,
        lane::Lane,
        machine::{BlockMachines, GpuState},
        record::Recorder,
        sample::{Marks, Sample},
        variant::Variant,
    },
    report::scaling::{Explained, text},
};
use std::time::Duration;

/// A simulated system: each request passes client, link, queue and model, each first in, first out. Times in ms.
#[derive(Clone, Copy)]
struct System {
    /// CPU time of the client's only thread for each request.
    client: f64,
    /// Time on the link, which carries one request at a time.
    link: f64,
    /// Time of the server outside queue and model, on as many cores as it needs.
    server: f64,
    /// Time of a run.
    model: f64,
    instances: usize,
    /// Wait for other requests, as a batcher with a delay makes them.
    delay: f64,
}

const SYSTEM: System = System { client: 0.1, link: 0.1, server: 0.2, model: 10.0, instances: 1, delay: 0.0 };
/// Bytes of a request.
const BYTES: u64 = 100_000;

/// The earliest time at which one of the servers of a station is free, from `at` on; it is then busy for `ms`.
fn pass(station: &mut [f64], at: f64, ms: f64) -> f64 {
    let free = station.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
    *free = free.max(at) + ms;
    *free
}

impl System {
    /// A window of a second of a closed loop.
    fn window(self, workers: usize, index: u64) -> MeasuredBlock {
        const SECOND: f64 = 1_000.0;
        let us = |ms: f64| (ms * 1e3) as u64;
        let time = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
        let (mut client, mut link, mut instances) = ([0.0; 1], [0.0; 1], vec![0.0; self.instances]);
        // Requests: (time, stage, begin, time of arrival at the queue).
        let mut requests = vec![(0.0_f64, 0_u8, 0.0_f64, 0.0_f64); workers];
        let (mut recorder, mut counters, mut cpu) = (Recorder::new().unwrap(), Counters::default(), 0.0);
        let start = Duration::from_secs(10 * (index + 1));
        loop {
            let next = requests.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let (at, stage, begin, queued) = *next;
            if at >= 2.0 * SECOND {
                break;
            }
            *next = match stage {
                0 => (pass(&mut client, at, self.client), 1, at, 0.0),
                1 => (pass(&mut link, at, self.link), 2, begin, 0.0),
                2 => (at + self.server + self.delay, 3, begin, at + self.server),
                3 => (pass(&mut instances, at, self.model), 4, begin, queued),
                _ => (at, 0, 0.0, 0.0),
            };
            // The second half is measured.
            if stage == 4 && at >= SECOND {
                recorder.add(Sample {
                    start: start + time(begin) - time(SECOND),
                    latency: time(at - begin),
                    marks: Marks { last_byte: time(at - begin), decoded: time(at - begin), ..Marks::default() },
                    ..Sample::default()
                });
                cpu += self.client;
                counters.requests += 1;
                counters.images += 1;
                counters.executions += 1;
                counters.queue_us += us(at - self.model - queued);
                counters.compute_infer_us += us(self.model);
                counters.request_us += us(at - queued + self.server);
            }
        }
        let completed = recorder.samples().len() as u64;
        MeasuredBlock {
            start,
            wall: Duration::from_secs(1),
            outside: 0,
            connections: workers as u64,
            reconnects: 0,
            counted: Some(counters.requests),
            recorder,
            after_idle: None,
            cpu: Some(time(cpu)),
            busiest_thread: Some(time(cpu)),
            machines: BlockMachines::default(),
            traffic: Traffic { sent_bytes: BYTES * completed, ..Traffic::default() },
            offered: None,
            server: Ok(counters),
        }
    }

    /// A report of one lane at these numbers of workers.
    fn report(self, workers: &[usize]) -> Report {
        let mut report = fixture::report();
        let cell = |&concurrency: &usize| {
            let load = Load::Concurrent { concurrency, batch: 1 };
            let blocks = (0..4).map(|index| self.window(concurrency, index)).collect();
            let (variant, warm_up) = (Variant::plain(Lane::ONNX_HTTP), WarmUp::default());
            Cell::new(Measured { variant, load, request_bytes: BYTES as usize, warm_up, blocks }, None, 1).unwrap()
        };
        report.cells = workers.iter().map(cell).collect();
        report
    }
}

fn provider(report: &mut Report, provider: &str) {
    let info = report.lanes.iter_mut().find(|info| info.lane == Lane::ONNX_HTTP).unwrap();
    info.effective_provider = Some(provider.into());
    info.machine.instances = Some("1 × KIND_AUTO".into());
}

/// What ends the scaling of the only lane.
fn end_of(report: &Report) -> End {
    let found = scalings(report, None);
    assert_eq!(found.len(), 1);
    found[0].end
}

#[test]
fn a_model_that_always_runs_ends_it_on_its_device() {
    let mut report = System { server: 5.0, ..SYSTEM }.report(&[1, 4, 16]);
    provider(&mut report, "CPUExecutionProvider");
    assert!(matches!(end_of(&report), End::Busy(Resource::Cpu, share) if share > 0.95), "{:?}", end_of(&report));
    provider(&mut report, "CUDAExecutionProvider");
    assert!(matches!(end_of(&report), End::Busy(Resource::Gpu, _)));
    let found = scalings(&report, None);
    assert_eq!(found[0].ends_at().unwrap().load, Load::Concurrent { concurrency: 4, batch: 1 });
    let last = found[0].steps.last().unwrap();
    assert!((last.in_flight() - 16.0).abs() < 0.5, "Little's law: {}", last.in_flight());
    let [queue, model, server, _] = last.places_ms.unwrap();
    assert!((queue - 145.0).abs() < 5.0 && (model - 10.0).abs() < 0.1 && (server - 5.0).abs() < 0.1, "{last:?}");
}

#[test]
fn a_gpu_that_reports_its_utilisation_is_believed() {
    let mut report = SYSTEM.report(&[1, 4, 16]);
    provider(&mut report, "CUDAExecutionProvider");
    let mut gpu = |utilization| {
        let gpus = vec![GpuState { utilization: Some(utilization), ..GpuState::default() }];
        for cell in &mut report.cells {
            cell.machines = vec![BlockMachines { gpus: gpus.clone(), ..BlockMachines::default() }];
        }
        end_of(&report)
    };
    assert_eq!(gpu(0.3), End::Instances, "the instance is busy, but not on the GPU");
    assert_eq!(gpu(0.3).resource(), Some(Resource::Queue));
    assert!(matches!(gpu(0.99), End::Busy(Resource::Gpu, _)));
}

#[test]
fn a_full_link_ends_it() {
    let mut report = System { link: 40.0, model: 2.0, ..SYSTEM }.report(&[1, 4, 16]);
    provider(&mut report, "CPUExecutionProvider");
    report.settings.link = Some("rtt=10ms,up=20mbit".parse().unwrap());
    assert!(matches!(end_of(&report), End::Busy(Resource::Link, share) if share > 0.95), "{:?}", end_of(&report));
    // Without a rate there is no utilisation, but the wait is outside the server.
    report.settings.link = Some("rtt=10ms".parse().unwrap());
    assert!(matches!(end_of(&report), End::Waits(Some(Resource::Link), Place::Outside, _)), "{:?}", end_of(&report));
}

#[test]
fn a_busy_client_ends_it() {
    let mut report = System { client: 5.0, model: 2.0, ..SYSTEM }.report(&[1, 4, 16]);
    provider(&mut report, "CPUExecutionProvider");
    assert!(matches!(end_of(&report), End::Busy(Resource::Client, share) if share > 0.95), "{:?}", end_of(&report));
}

/// Of an unknown number of instances nobody knows whether all are busy, but requests wait for one.
#[test]
fn waits_in_the_queue_end_it_where_no_resource_is_known_to_be_busy() {
    let report = SYSTEM.report(&[1, 4, 16]);
    assert!(matches!(end_of(&report), End::Waits(Some(Resource::Queue), Place::Queue, share) if share > 0.9));
    let scalings = scalings(&report, Some(1));
    assert!(matches!(scalings[0].end, End::Busy(Resource::Cpu, _)), "--instances says how many there are");
}

#[test]
fn a_load_that_still_scales_is_not_ended() {
    let mut report = System { instances: 8, ..SYSTEM }.report(&[1, 2, 4]);
    provider(&mut report, "CPUExecutionProvider");
    assert!(matches!(end_of(&report), End::NotReached(Some(_))), "{:?}", end_of(&report));
    assert!(scalings(&SYSTEM.report(&[4]), None).is_empty(), "one load shows nothing");
}

#[test]
fn without_counters_the_end_may_stay_unknown() {
    let mut report = SYSTEM.report(&[1, 4, 16]);
    for cell in &mut report.cells {
        (cell.server, cell.client_cpu_s, cell.client_busiest_thread_s) = (None, None, None);
    }
    assert_eq!(end_of(&report), End::Unknown);
}

#[test]
fn groups_of_instances_add_up() {
    let mut info = fixture::report().lanes.remove(0);
    let mut count = |text: Option<&str>| {
        info.machine.instances = text.map(str::to_owned);
        instances(&info)
    };
    assert_eq!(count(None), None);
    assert_eq!(count(Some("2 × KIND_GPU, 1 × KIND_CPU, tensorrt")), Some(3));
    assert_eq!(count(Some("tensorrt")), None);
}

#[test]
fn the_evidence_is_a_few_lines_for_each_lane() {
    let mut report = System { server: 5.0, ..SYSTEM }.report(&[1, 4, 16]);
    provider(&mut report, "CPUExecutionProvider");
    report.settings.link = Some("rtt=1ms,up=100mbit".parse().unwrap());
    let mut two = System { server: 5.0, instances: 2, ..SYSTEM }.report(&[1, 4, 16]);
    provider(&mut two, "CPUExecutionProvider");
    two.lanes.iter_mut().for_each(|info| info.machine.instances = Some("2 × KIND_CPU".into()));
    let runs = [("one", &report), ("two", &two)];
    let explained = runs.map(|(name, report)| Explained { name, scalings: scalings(report, None) });
    insta::assert_snapshot!(text(&explained), @r"
    # What ends the scaling: one

    ## ONNX HTTP, concurrent (reused, fp32, tcp): CPU

    - The CPU is the busiest: the model runs for 100 % of the time. More instances help only if it has capacity left.
    - Throughput (img/s): 66.0 at concurrent c=1, 100.0 at concurrent c=4, 100.0 at concurrent c=16; nearly the peak from concurrent c=4 on.
    - Little's law at concurrent c=16: 100.0 requests/s × 160 ms = 16.0 in flight: 14.5 in the queue, 1.0 in the model, 0.5 elsewhere in the server, 0.0 outside the server.
    - Instances: 100.0 runs/s × 10.0 ms = 1.00 busy of 1 (100 %); CPUExecutionProvider.
    - Client: 0 % of its cores, its busiest thread 1 % of one; its workers had a request in flight for 100 % of the time.
    - Link up: 80.0 of 100.0 Mbit/s (80 %).

    # What ends the scaling: two

    ## ONNX HTTP, concurrent (reused, fp32, tcp): CPU

    - The CPU is the busiest: the model runs for 100 % of the time. More instances help only if it has capacity left.
    - Throughput (img/s): 66.0 at concurrent c=1, 200.0 at concurrent c=4, 200.0 at concurrent c=16; nearly the peak from concurrent c=4 on.
    - Little's law at concurrent c=16: 200.0 requests/s × 80.0 ms = 16.0 in flight: 13.0 in the queue, 2.0 in the model, 1.0 elsewhere in the server, 0.0 outside the server.
    - Instances: 200.0 runs/s × 10.0 ms = 2.00 busy of 2 (100 %); CPUExecutionProvider.
    - Client: 1 % of its cores, its busiest thread 2 % of one; its workers had a request in flight for 100 % of the time.

    # More instances

    - ONNX HTTP: 1 to 2 instances (one, two): 100.0 to 200.0 img/s; more instances help: with fewer, the queue for an instance ended the scaling.
    ");
}

/// Windows that are shorter than a request complete nothing: that does not mean that the workers were idle.
#[test]
fn a_window_without_a_completed_request_says_nothing_of_the_workers() {
    let mut report = SYSTEM.report(&[1, 4]);
    let cell = &mut report.cells[1];
    let last = *cell.blocks.last().unwrap();
    cell.blocks.push(BlockSpan { start_s: last.start_s + 10.0, first: last.first + last.samples, samples: 0, ..last });
    assert!(scalings(&report, None)[0].steps[1].kept_in_flight.unwrap() > 0.99);
}
