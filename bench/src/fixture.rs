//! An invented report for tests: five lanes on a machine that slows down, with stage times, counters or no server
//! times.

use std::time::Duration;

use quintet_proto::lanes::Lane as Kind;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::outputs::{LaneOutputs, compare},
    model::{
        block::{Measured, MeasuredBlock, WarmUp},
        cell::Cell,
        connection::Traffic,
        counters::Counters,
        encoding::Form,
        environment::Environment,
        estimate::Estimate,
        lane::Lane,
        limits::Limits,
        load::Load,
        machine::{BlockMachines, Machine},
        outputs::Output,
        part::StageTimes,
        precision::Precision,
        record::Recorder,
        report::{LaneInfo, PhotographInfo, Report, SCHEMA},
        sample::{Marks, Sample},
        settings::{Preset, Settings},
        variant::Variant,
    },
    run::plan::{Plan, Work},
};

/// Network and model time of one image, in µs, and the bytes of a request.
fn truth(lane: Lane) -> (u64, u64, usize) {
    match lane.kind {
        Kind::Jpeg => (300, 9_000, 90_000),
        Kind::OnnxHttp => (500, 8_000, 602_300),
        Kind::OnnxGrpc => (800, 8_000, 602_260),
        Kind::TrtHttp => (500, 4_000, 602_300),
        Kind::TrtGrpc => (520, 4_000, 602_260),
    }
}

pub(crate) fn sample(lane: Lane, start: Duration, batch: u64, slow: f64, rng: &mut ChaCha8Rng) -> Sample {
    let (network, model, _) = truth(lane);
    let jitter = 1.0 + 0.05 * rng.random::<f64>() + if rng.random_ratio(1, 40) { 0.4 } else { 0.0 };
    let us = |us: u64| (us as f64 * slow * jitter) as u64;
    let (network, model) = (us(network) * batch, us(model) * (batch + 1) / 2);
    let at = Duration::from_micros;
    let server = 40 * batch + model + 60;
    let (sent, first, last) = (10 + network / 2, 10 + network / 2 + network / 2 + server, 30 + network + server);
    Sample {
        start,
        latency: at(last + 3),
        lag: Duration::ZERO,
        marks: Marks {
            connected: at(1),
            tls: None,
            round_trip: None,
            encoded: at(4),
            sent: at(sent),
            first_byte: at(first),
            last_byte: at(last),
            decoded: at(last + 2),
        },
        stages: (lane.service() == "onnx").then(|| {
            let receive = 40 * batch;
            StageTimes::parse(&format!(
                "receive;dur={}, parse;dur=0.006, queue;dur=0.024, gather;dur=0, copy_in;dur=0.01, infer;dur={}, \
                 copy_out;dur=0.005, encode;dur=0.015",
                receive as f64 / 1e3,
                model as f64 / 1e3
            ))
            .unwrap()
        }),
    }
}

fn block(lane: Lane, load: Load, index: u64, rng: &mut ChaCha8Rng) -> MeasuredBlock {
    let start = Duration::from_secs(10 * index);
    let slow = 1.0 + 0.05 * index as f64;
    let mut recorder = Recorder::new().unwrap();
    let mut end = start;
    let mut counters = Counters::default();
    for _ in 0..load.workers().max(5) {
        let sample = sample(lane, end, load.batch() as u64, slow * load.workers().div_ceil(4) as f64, rng);
        if load.workers() == 1 {
            end = sample.end();
        }
        counters.requests += 1;
        counters.images += load.batch() as u64;
        counters.executions += 1;
        counters.queue_us += 100;
        counters.compute_infer_us += (sample.latency.as_micros() as f64 * 0.6) as u64;
        counters.request_us += (sample.latency.as_micros() as f64 * 0.7) as u64;
        recorder.add(sample);
        recorder.response_bytes = 4_000 * load.batch();
    }
    let first = recorder.samples()[0].latency;
    let wall = recorder.samples().iter().map(Sample::end).max().unwrap() - start;
    MeasuredBlock {
        start,
        wall,
        outside: 0,
        connections: load.workers() as u64,
        reconnects: 0,
        counted: Some(counters.requests),
        recorder,
        after_idle: matches!(load, Load::Serial { .. }).then(|| first * 2),
        cpu: Some(wall / 10),
        busiest_thread: Some(wall / 20),
        machines: BlockMachines::default(),
        traffic: Traffic::default(),
        offered: None,
        server: if lane == Lane::JPEG { Err("no metrics page".into()) } else { Ok(counters) },
    }
}

fn info(lane: Lane) -> LaneInfo {
    LaneInfo {
        lane,
        service: lane.service().into(),
        url: format!("http://10.0.0.1:{}", lane.kind.default_port()),
        metrics_url: "http://10.0.0.1:8012/metrics".into(),
        model: "resnet18".into(),
        model_versions: vec!["1".into()],
        server: Some("triton <2.51.0>".into()),
        effective_provider: (lane.service() != "trt").then(|| "CPUExecutionProvider".into()),
        precision: None,
        provider_reason: None,
        weights: None,
        max_queue_delay_us: None,
        tls: None,
        machine: Machine::default(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        counters_missing: None,
    }
}

fn environment() -> Environment {
    Environment {
        cpu: "Example CPU".into(),
        cores: 2,
        memory_bytes: Some(8 << 30),
        os: "Linux".into(),
        arch: "x86_64".into(),
        load_average: Some(0.1),
        governor: Some("performance".into()),
        turbo: Some(false),
        gpus: vec!["Example GPU".into()],
        gpu_driver: Some("550.54".into()),
        version: "0.1.0".into(),
        commit: Some("0123abc".into()),
        libraries: [("hyper".to_owned(), "1.8.1".to_owned())].into(),
        optimised: true,
        command_line: vec!["quintet-bench".into(), "run".into()],
    }
}

fn settings() -> Settings {
    Settings {
        preset: Preset::Quick,
        model: "resnet18".into(),
        batches: vec![1, 8, 32],
        concurrency: vec![8],
        iterations: 30,
        warmup: 2,
        blocks: 6,
        duration: Duration::from_secs(4),
        ramp: Duration::from_secs(1),
        seed: 1,
        hypotheses: vec!["network(onnx-http) < 0.8 * network(onnx-grpc) @ batch=8".parse().unwrap()],
        limits: Limits::default(),
        link: None,
        ..Settings::default()
    }
}

/// The number of blocks of a lane that the real plan measures under a load.
fn measured_blocks(plan: &Plan, lane: Lane, load: Load) -> u64 {
    let blocks = plan.stages.iter().filter(|stage| stage.load == load).flat_map(|stage| &stage.blocks);
    blocks.filter(|block| block.variant.lane == lane && !matches!(block.work, Work::WarmUp { .. })).count() as u64
}

/// The report; it is always the same.
pub(crate) fn report() -> Report {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let settings = settings();
    let serial = settings.batches.iter().map(|&batch| Load::Serial { batch });
    let concurrent = settings.concurrency.iter().map(|&concurrency| Load::Concurrent { concurrency, batch: 1 });
    let plan = Plan::new(&settings, &Lane::ALL);
    let mut cells = Vec::new();
    for load in serial.chain(concurrent) {
        for lane in Lane::ALL {
            let blocks =
                (0..measured_blocks(&plan, lane, load)).map(|index| block(lane, load, index, &mut rng)).collect();
            let request_bytes = truth(lane).2 * load.batch();
            let variant = Variant::plain(lane);
            let work_ms = (variant.payload.form() != Form::File).then(|| Estimate::new(2.0, 1.9, 2.1, 20));
            let measured = Measured { variant, load, request_bytes, warm_up: WarmUp::default(), blocks };
            cells.extend(Cell::new(measured, work_ms, 1));
        }
    }
    let outputs = Lane::ALL.map(|lane| LaneOutputs {
        lane,
        precision: Precision::Fp32,
        outputs: vec![Output { name: "embedding".into(), rows: vec![vec![1.0, 2.0]] }],
    });
    let mut report = Report {
        schema: SCHEMA.into(),
        started_at: "20261125T000000Z".into(),
        elapsed_s: 60.0,
        interrupted: false,
        resumed_at: Vec::new(),
        settings,
        environment: environment(),
        lanes: Lane::ALL.into_iter().map(info).collect(),
        photographs: vec![PhotographInfo { name: "<coffee> & cake.jpg".into(), bytes: 67_500 }],
        client_preprocess_ms: Some(Estimate::new(2.0, 1.9, 2.1, 20)),
        client_resize_ms: None,
        outputs: compare(&outputs, Vec::new()),
        cells,
        capacities: Vec::new(),
        scenario: None,
        differences: Vec::new(),
        speedups: Vec::new(),
        hypotheses: Vec::new(),
        warnings: Vec::new(),
    };
    crate::study::hypotheses::conclude(&mut report);
    report
}
