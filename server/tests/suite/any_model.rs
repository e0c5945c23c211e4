//! Tests of the benchmark with models that take no images: types, several inputs, dynamic dimensions, files.

use std::{fs, path::Path, time::Duration};

use quintet_bench::{
    client::{endpoint::Endpoint, payload::Payload, target::Target},
    model::{data::Data, encoding::Encoding, lane::Lane, report::Report, settings::Settings},
    run::{error::RunError, progress::Silent, setup::Run},
};
use tokio_util::sync::CancellationToken;

use crate::server::{Suite, small_models};

/// `quintet-bench run --model MODEL --data DATA --shape SHAPES` on both protocols.
fn run(server: &Suite, model: &str, data: Data, shapes: &[&str], batches: Vec<usize>) -> Result<Report, RunError> {
    let at = |listener: &str| Endpoint::local(server.port(listener));
    let targets = [(Lane::ONNX_HTTP, "http"), (Lane::ONNX_GRPC, "grpc")].map(|(lane, listener)| Target {
        lane,
        endpoint: at(listener),
        metrics: at("metrics"),
        model: model.into(),
    });
    let settings = Settings {
        model: model.into(),
        data,
        shapes: shapes.iter().map(|shape| shape.parse().unwrap()).collect(),
        batches,
        concurrency: Vec::new(),
        iterations: 4,
        warmup: 1,
        max_warmup: 1,
        blocks: 2,
        ramp: Duration::ZERO,
        ..Settings::default()
    };
    let payload = Payload::new(&[], 0, |_, _| Ok::<_, String>(())).unwrap();
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

/// Every request succeeds, and both protocols give the same outputs.
fn assert_measured(report: &Report, what: &str) {
    assert_eq!((report.failed(), report.cells.len()), (0, 2 * report.settings.batches.len()), "{what}");
    let [pair] = &report.outputs.pairs[..] else { panic!("{what}: {:?}", report.outputs) };
    assert!(
        pair.agree && pair.max_abs_difference == Some(0.0) && report.outputs.missing.is_empty(),
        "{what}: {pair:?}"
    );
    assert!(report.cells.iter().all(|cell| cell.payload == Some(Encoding::Tensors) && cell.completed == 4), "{what}");
}

fn write_npy(path: &Path, shape: &str, elements: &[f32]) {
    let head = format!("{:<117}\n", format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
    let data: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(path, [b"\x93NUMPY\x01\0\x76\0", head.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn models_of_every_kind_are_measured_from_their_metadata() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let report = run(&server, "sum", Data::Random, &[], vec![1, 8]).unwrap();
    assert_measured(&report, "two INT32 inputs and two outputs");
    assert_eq!(report.lanes[0].inputs, ["a INT32 [-1,16]", "b INT32 [-1,16]"]);
    assert_eq!((report.photographs.len(), report.client_preprocess_ms), (0, None));
    let sizes: Vec<_> = report.cells.iter().map(|cell| (cell.lane, cell.request_bytes)).collect();
    assert!(sizes.iter().all(|(_, bytes)| *bytes > 2 * 16 * 4), "{sizes:?}");

    assert_measured(&run(&server, "words", Data::Random, &["x:1,3"], vec![1, 2]).unwrap(), "BYTES");
    assert_measured(&run(&server, "words", Data::Zero, &["x:3"], vec![1]).unwrap(), "empty BYTES");

    let folder = tempfile::tempdir().unwrap();
    write_npy(&folder.path().join("x.npy"), "(3, 2)", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let report = run(&server, "identity", Data::Folder(folder.path().into()), &[], vec![1, 2]).unwrap();
    assert_measured(&report, "a file of three items");
    assert_eq!(report.outputs.pairs[0].scale, 6.0, "the file's numbers are sent");
}

#[test]
fn data_that_does_not_fit_is_refused_before_anything_is_sent() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let refused = |model, data, batches| run(&server, model, data, &[], batches).unwrap_err().to_string();
    let dynamic = refused("identity", Data::Random, vec![1]);
    assert!(dynamic.contains("--shape x:1,...") && dynamic.contains("lane onnx-grpc"), "{dynamic}");
    let images = refused("identity", Data::Photos, vec![1]);
    assert!(images.contains("takes no photographs (its inputs are x FP32 [-1,-1])"), "{images}");
    let batch = refused("sum", Data::Random, vec![1, 16]);
    assert!(batch.contains("batches of up to 8"), "{batch}");
}

#[test]
fn the_report_names_what_ran_the_model() {
    let models = small_models();
    let server = Suite::triton(models.path(), &["--intra-op-threads=2"]);
    let report = run(&server, "sum", Data::Zero, &[], vec![1]).unwrap();
    for info in &report.lanes {
        let machine = &info.machine;
        assert_eq!(info.effective_provider.as_deref(), Some("CPUExecutionProvider"));
        assert_eq!((machine.threads, machine.platform.as_deref()), (Some(2), Some("onnxruntime_onnx")));
        let names: Vec<_> = machine.software.keys().map(String::as_str).collect();
        assert_eq!(names, ["onnxruntime", "quintet"], "{machine:?}");
        assert_eq!(machine.software["quintet"], quintet_server::VERSION);
        assert!(machine.gpus.is_empty() && info.precision.is_none(), "nothing is invented: {machine:?}");
    }
    assert_eq!(report.lanes[0].machine, report.lanes[1].machine, "both protocols say the same");
}
