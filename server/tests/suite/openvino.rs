//! Tests of an execution provider in a library of its own: OpenVINO on the CPU. `make test-openvino` fetches it and runs them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    photo,
    server::{MODEL, Suite, models, program},
    tensor,
};

/// The library that `cargo xtask setup --openvino` fetches, as the server's flag takes it.
fn library() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quintet/openvino").canonicalize().unwrap();
    format!("openvino={}", folder.join("libonnxruntime_providers_openvino_plugin.so").display())
}

/// What the log says of where models run.
fn placements(suite: &Suite) -> Vec<String> {
    let log = suite.log();
    log.lines().filter_map(|line| line.split_once("runs_on=")).map(|(_, rest)| rest.to_owned()).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found
}

#[test]
#[ignore = "needs OpenVINO's provider: make test-openvino"]
fn the_onnx_lane_runs_on_openvino_and_agrees_with_the_cpu() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = [
        "--ep-library",
        &library(),
        "--onnx-providers",
        "openvino,cpu",
        "--engine-cache",
        cache.path().to_str().unwrap(),
    ];
    let lanes = |suite: &Suite| {
        let output = suite.python("lanes.py", &[MODEL, &photo("astronaut.jpg"), &tensor(folder.path())]);
        assert!(output.ends_with("11 clients on 5 lanes agree\n"), "{output}");
    };
    let suite = Suite::start(&flags);
    lanes(&suite);
    let placements = placements(&suite);
    // OpenVINO lists only processors of Intel.
    const NO_DEVICE: &str = "openvino: its library takes no CPU of this machine";
    if let Some(placement) = placements.iter().find(|it| it.contains(NO_DEVICE)) {
        assert!(placement.starts_with("CPUExecutionProvider "), "{placement}");
        assert!(!suite.get("jpeg", "/gpu-info").contains("OpenVINOExecutionProvider"));
        assert!(!fs::read_to_string("/proc/cpuinfo").unwrap().contains("GenuineIntel"), "{placement}");
        println!("NOT RUN on OpenVINO: {placement}");
        return;
    }
    let on_openvino: Vec<_> = placements.iter().filter(|it| it.starts_with("OpenVINOExecutionProvider ")).collect();
    assert_eq!((placements.len(), on_openvino.len()), (3, 1), "{placements:?}");
    println!("{}", on_openvino[0]);
    let info = suite.get("jpeg", "/gpu-info");
    assert!(info.contains("OpenVINOExecutionProvider"), "{info}");
    drop(suite);
    // What it compiled is in the engine cache, and a second start reads it.
    let before = files(cache.path());
    assert!(!before.is_empty(), "{}", cache.path().display());
    let suite = Suite::start(&flags);
    lanes(&suite);
    assert_eq!(files(cache.path()), before, "the second start compiles nothing");
}

#[test]
#[ignore = "needs OpenVINO's provider: make test-openvino"]
fn without_the_library_the_lane_falls_back_or_does_not_start() {
    let suite = Suite::start(&["--ep-library", "openvino=/no/such/library.so", "--onnx-providers", "openvino,cpu"]);
    let reason = "openvino: /no/such/library.so: No such file or directory (os error 2)";
    let placements = placements(&suite);
    let with_reason = placements.iter().filter(|it| it.starts_with("CPUExecutionProvider ") && it.contains(reason));
    assert_eq!(with_reason.count(), 1, "{placements:?}");
    let ports = ["--onnx-http-port=0", "--onnx-grpc-port=0", "--onnx-metrics-port=0"];
    let mut command =
        program(&["suite", "--service=onnx", "--provider-policy=strict", "--onnx-providers=openvino,cpu"]);
    let output = command.args(ports).arg("--model-repository").arg(models()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("openvino: no library is registered: --ep-library openvino=PATH"), "{stderr}");
}

#[test]
#[ignore = "needs OpenVINO's provider: make test-openvino"]
fn a_model_on_openvino_is_unloaded_and_loaded_again_with_options_that_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::triton(models(), &["--ep-library", &library(), "--model-control-mode=explicit"]);
    let output = suite.python("openvino.py", &[MODEL, &tensor(folder.path())]);
    assert!(output.ends_with("openvino ok\n"), "{output}");
}
