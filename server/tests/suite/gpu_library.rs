//! Tests of ONNX Runtime's GPU build on a machine without a GPU. `make test-gpu-library` fetches it and runs them.

use std::path::{Path, PathBuf};

use crate::{
    photo,
    server::{MODEL, Suite, models, program},
    tensor,
};

/// `QUINTET_GPU_LIBRARY`, or the library that `cargo xtask setup --gpu-library` fetches.
fn library() -> PathBuf {
    let fetched = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quintet/onnxruntime-gpu");
    std::env::var_os("QUINTET_GPU_LIBRARY").map_or_else(fetched, PathBuf::from)
}

/// What follows `needle` in the log, to the end of the line.
fn after<'a>(log: &'a str, needle: &str) -> Vec<&'a str> {
    log.lines().filter_map(|line| line.split_once(needle)).map(|(_, rest)| rest).collect()
}

#[test]
#[ignore = "needs ONNX Runtime's GPU build and no GPU: make test-gpu-library"]
fn without_a_gpu_both_providers_give_a_reason_and_every_lane_serves() {
    let library = library();
    let suite = Suite::start(&["--onnxruntime", library.to_str().unwrap()]);
    let folder = tempfile::tempdir().unwrap();
    let output = suite.python("lanes.py", &[MODEL, &photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(output.ends_with("11 clients on 5 lanes agree\n"), "{output}");
    assert!(suite.python("providers.py", &[MODEL]).ends_with("providers ok\n"));
    let log = suite.log();
    let placements = after(&log, "runs_on=");
    assert_eq!(placements.len(), 3, "{log}");
    // It is found beside ONNX Runtime, with all that it is linked with but the driver.
    let rtx: Vec<_> = placements.iter().filter_map(|placement| placement.split_once("tensorrt-rtx: ")).collect();
    assert!(
        matches!(rtx[..], [(_, reason)] if reason.split(';').next().is_some_and(|it| it.contains("libcuda.so.1: cannot open"))),
        "{log}"
    );
    for placement in placements {
        assert!(placement.starts_with("CPUExecutionProvider ") && placement.contains("; cuda: "), "{placement}");
        // The missing library depends on the machine.
        assert!(placement.contains(": cannot open shared object file"), "{placement}");
        println!("{placement}");
    }
}

#[test]
#[ignore = "needs ONNX Runtime's GPU build and no GPU: make test-gpu-library"]
fn without_a_gpu_a_strict_policy_does_not_start() {
    let ports = ["--trt-http-port=0", "--trt-grpc-port=0", "--trt-metrics-port=0"];
    let mut command = program(&["suite", "--service=trt", "--provider-policy=strict"]);
    command.args(ports).arg("--onnxruntime").arg(library()).arg("--model-repository").arg(models());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    // The log has the word as well: why TensorRT for RTX cannot be used.
    let reasons: Vec<_> = stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert!(
        matches!(reasons[..], [reason] if reason.contains(": tensorrt: ") && reason.contains("cannot open")),
        "{stderr}"
    );
    println!("{}", reasons[0]);
}
