//! Tests of the benchmark with the suite: the same images in messages and in shared memory.

use std::time::Duration;

use quintet_bench::{
    client::{
        endpoint::Endpoint,
        payload::{self, Payload},
        target::Target,
    },
    model::{lane::Lane, report::Report, settings::Settings, transport::Transport},
    run::{error::RunError, progress::Silent, setup::Run},
};
use tokio_util::sync::CancellationToken;

use crate::server::{MODEL, Suite};

/// The lanes that can use shared memory.
const LANES: [Lane; 4] = [Lane::ONNX_HTTP, Lane::ONNX_GRPC, Lane::TRT_HTTP, Lane::TRT_GRPC];

/// `quintet-bench run --transport shm,tcp` on a suite. The outputs of the first variant of each lane are compared.
fn run(suite: &Suite) -> Result<Report, RunError> {
    let at = |listener: &str| Endpoint::local(suite.port(listener));
    let targets = Lane::ALL.map(|lane| Target {
        lane,
        endpoint: at(lane.kind.name()),
        metrics: if lane == Lane::JPEG { at("jpeg") } else { at(&format!("{}-metrics", lane.service())) },
        model: MODEL.into(),
    });
    let settings = Settings {
        model: MODEL.into(),
        batches: vec![1],
        concurrency: Vec::new(),
        iterations: 4,
        warmup: 1,
        max_warmup: 1,
        blocks: 2,
        ramp: Duration::ZERO,
        transports: vec![Transport::Shm, Transport::Tcp],
        ..Settings::default()
    };
    let preprocess = |encoded: &[u8], tensor: &mut [f32]| {
        quintet_preprocess::to_tensor(encoded, quintet_preprocess::DEFAULT_MAX_PIXELS, tensor)
    };
    let payload = Payload::new(&payload::compiled_in(), 1, preprocess).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = Run {
        settings,
        targets: targets.to_vec(),
        payload,
        output: folder.path().to_owned(),
        progress: &Silent,
        resume: None,
        stop: CancellationToken::new().into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run.run()).map(|outcome| outcome.report)
}

#[test]
fn the_benchmark_measures_tensors_in_shared_memory() {
    let suite = Suite::start(&["--allow-client-shm"]);
    let report = run(&suite).unwrap();
    assert_eq!(report.failed(), 0);
    for lane in LANES {
        for (transport, bytes) in [(Transport::Tcp, 602_112..620_000), (Transport::Shm, 100..2_000)] {
            let cell = report.cells.iter().find(|cell| (cell.lane, cell.transport) == (lane, transport)).unwrap();
            assert_eq!(cell.completed, 4, "{lane} {transport}");
            let sent = cell.traffic.sent_bytes / cell.completed;
            assert!(bytes.contains(&sent), "{lane} {transport}: {sent} bytes for each request");
            assert_eq!(cell.server.as_ref().unwrap().requests, 4, "{lane} {transport}: the server counts the same");
        }
    }
    // The jpeg lane's outputs came in messages.
    assert_eq!(report.outputs.pairs.len(), 10);
    assert!(report.outputs.missing.is_empty() && report.outputs.pairs.iter().all(|pair| pair.agree));
    for listener in ["onnx-http", "trt-http"] {
        let status = suite.get(listener, "/v2/systemsharedmemory/status");
        assert!(
            status.starts_with("HTTP/1.1 200") && status.ends_with("\r\n\r\n[]"),
            "the regions are unregistered: {status}"
        );
    }
}

#[test]
fn shared_memory_is_off_unless_it_is_allowed() {
    let suite = Suite::start(&[]);
    let error = run(&suite).unwrap_err().to_string();
    assert!(error.contains("--transport shm") && error.contains("--allow-client-shm"), "{error}");
}
