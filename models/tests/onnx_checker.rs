//! Checks the written files with ONNX's checker and Triton's configuration schema.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod common;

use std::path::Path;

use common::{python, stdout};

/// Checks each model with shape inference, and prints its operators, inputs and outputs.
const CHECK: &str = r#"
import sys
import onnx

def show(value):
    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type)} {dims}"

for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    graph = model.graph
    opset = {entry.domain: entry.version for entry in model.opset_import}
    operators = sorted({node.op_type for node in graph.node})
    print(graph.name, "IR", model.ir_version, "opset", opset, *operators)
    print(" ", *map(show, graph.input), "->", *map(show, graph.output))
"#;

/// Parses each configuration with Triton's schema, and prints its backend, batching, tensors and warm-up.
const CONFIGURATIONS: &str = r#"
import sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

for path in sys.argv[1:]:
    config = text_format.Parse(open(path).read(), model_config_pb2.ModelConfig())
    kind = model_config_pb2.DataType.Name
    print(config.name, config.backend, config.max_batch_size, config.WhichOneof("scheduling_choice"))
    for tensor in [*config.input, *config.output]:
        print(" ", tensor.name, kind(tensor.data_type), list(tensor.dims), getattr(tensor, "label_filename", ""))
    for warm in config.model_warmup:
        for name, value in warm.inputs.items():
            print(" ", warm.batch_size, name, kind(value.data_type), list(value.dims), value.zero_data)
"#;

#[test]
fn every_depth_passes_the_onnx_checker() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().to_str().unwrap();
    let build = |archs: &[&str], variants: &str| {
        let archs = archs.iter().flat_map(|arch| ["--arch", arch]);
        let rest = ["--variants", variants, "--output", output];
        stdout(&std::iter::once("build").chain(archs).chain(rest).collect::<Vec<_>>())
    };
    let written =
        build(&["resnet18"], "fp32,fp16,u8") + &build(&["resnet34", "resnet50", "resnet101", "resnet152"], "fp32");
    let paths: Vec<_> = written.lines().map(|line| Path::new(line).join("1/model.onnx")).collect();
    insta::assert_snapshot!(python(CHECK, &paths.iter().map(AsRef::as_ref).collect::<Vec<_>>()));
}

#[test]
fn tritons_schema_accepts_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().to_str().unwrap();
    let written = stdout(&["build", "--arch", "resnet18", "--max-batch-size", "8", "--output", output]);
    let paths: Vec<_> = written.lines().map(|line| Path::new(line).join("config.pbtxt")).collect();
    insta::assert_snapshot!(python(CONFIGURATIONS, &paths.iter().map(AsRef::as_ref).collect::<Vec<_>>()));
}
