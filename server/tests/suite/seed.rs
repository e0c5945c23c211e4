//! The study's two configurations, written for a GPU: they load on a CPU and report what has no effect there.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use tempfile::TempDir;

use crate::server::{MODEL, Suite, models, program};

/// Bytes of one image in FP32.
const IMAGE_BYTES: usize = 3 * 224 * 224 * 4;

/// A repository with both models. ResNet-18's first output stands in for the study's model: it has the same
/// shapes.
fn repository() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/seed");
    for name in ["cuda", "tensorrt"] {
        fs::create_dir_all(root.path().join(name).join("1")).unwrap();
        fs::copy(configs.join(format!("{name}.pbtxt")), root.path().join(name).join("config.pbtxt")).unwrap();
        let model = models().join(MODEL).join("1/model.onnx");
        fs::copy(model, root.path().join(name).join("1/model.onnx")).unwrap();
    }
    root
}

/// The head and JSON of the response to one image of zeros, and the number of bytes after them.
fn infer(port: u16, model: &str) -> (String, usize) {
    let json = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"FP32","shape":[1,3,224,224],"parameters":{{"binary_data_size":{IMAGE_BYTES}}}}}],"outputs":[{{"name":"embedding","parameters":{{"binary_data":true}}}}]}}"#
    );
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         inference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + IMAGE_BYTES
    );
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&vec![0; IMAGE_BYTES]).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let end = answer.windows(3).position(|three| three == b"}]}").map_or(answer.len(), |at| at + 3);
    (text.chars().take(end).collect(), answer.len() - end)
}

/// The complete response to a GET.
fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_studys_configurations_load_on_a_cpu_and_report_what_has_no_effect() {
    let root = repository();
    let suite = Suite::triton(root.path(), &[]);
    let log = suite.log();
    for (model, accelerator) in [("cuda", ""), ("tensorrt", "gpu_execution_accelerator \\\"tensorrt\\\" (runs on CPU")]
    {
        let warning =
            log.lines().find(|line| line.contains("have no effect") && line.contains(&format!("model=\"{model}\"")));
        let warning = warning.unwrap_or_else(|| panic!("{model}: {log}"));
        for field in
            ["optimization.cuda.graphs", "instance_group.kind: KIND_GPU (runs on CPUExecutionProvider: ", accelerator]
        {
            assert!(warning.contains(field), "{field}: {warning}");
        }
        let (answer, bytes) = infer(suite.port("http"), model);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(r#""shape":[1,512]"#), "{answer}");
        assert_eq!(bytes, 512 * 4);
        let output = get(suite.port("http"), &format!("/v2/models/{model}"));
        assert!(output.contains("quintet-effective-provider: CPUExecutionProvider"), "{output}");
        assert!(output.contains(&format!("quintet-provider-reason: {model}: ")), "{output}");
        let metrics = get(suite.port("metrics"), "/metrics");
        let series =
            metrics.lines().find(|line| line.starts_with("quintet_model_provider_info") && line.contains(model));
        assert!(series.is_some_and(|line| line.contains(&format!("reason=\"{model}: "))), "{metrics}");
    }
}

#[test]
fn with_a_strict_policy_the_server_does_not_start_and_gives_the_reason_in_one_line() {
    let refusal = |command: &mut std::process::Command| {
        let output = command.arg("--provider-policy=strict").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        stderr.lines().filter(|line| line.contains("cannot load ")).map(str::to_owned).next_back().unwrap_or(stderr)
    };
    let mut suite =
        program(&["suite", "--service=trt", "--trt-http-port=0", "--trt-grpc-port=0", "--trt-metrics-port=0"]);
    let output = refusal(suite.arg("--model-repository").arg(models()));
    assert!(output.contains("error: service trt: ") && output.contains(": tensorrt: "), "{output}");
    assert!(output.contains("(--provider-policy strict: no other provider may run it)"), "{output}");
    let root = repository();
    let mut triton = program(&["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--http-address=127.0.0.1"]);
    let output = refusal(triton.arg("--model-repository").arg(root.path()));
    assert!(output.contains(": tensorrt: ") || output.contains(": cuda: "), "{output}");
}
