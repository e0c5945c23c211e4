//! Builds INT8 models as a user does, and checks them with ONNX's checker and in ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod common;

use std::{fs, path::Path};

use common::{python, run, stdout};

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../photos");

/// Checks a model with shape inference, and prints its tensors and how many operators of each kind it has.
const CHECK: &str = r#"
import sys
from collections import Counter
import onnx

def show(value):
    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type)} {dims}"

onnx.checker.check_model(sys.argv[1], full_check=True)
model = onnx.load(sys.argv[1])
print(model.graph.name, *map(show, model.graph.input), "->", *map(show, model.graph.output))
for name, count in sorted(Counter(node.op_type for node in model.graph.node).items()):
    print(" ", count, name)
for name, count in sorted(Counter(onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer).items()):
    print(" ", count, name)
print(" ", *sorted(f"{entry.key}={entry.value}" for entry in model.metadata_props))
"#;

#[test]
fn an_int8_model_passes_the_onnx_checker_and_is_within_its_tolerance() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().to_str().unwrap();
    let built = run(&["build", "--arch", "resnet18", "--variants", "int8", "--output", models]);
    assert_eq!((built.code, built.stdout), (0, format!("{models}/resnet18_int8\n")), "{}", built.stderr);
    assert!(built.stderr.contains("calibrating on 2 photographs, 10 views each"), "{}", built.stderr);
    let agreement = built.stderr.lines().find(|line| line.contains("top-1 agreement")).unwrap();
    assert!(agreement.starts_with("resnet18_int8: on 1 photographs held back, 10 views each: top-1"), "{agreement}");
    let cosine: f32 = agreement.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(cosine > 0.99, "{agreement}");

    insta::assert_snapshot!(python(CHECK, &[&dir.path().join("resnet18_int8/1/model.onnx")]));
    let config = fs::read_to_string(dir.path().join("resnet18_int8/config.pbtxt")).unwrap();
    assert!(config.contains("name: \"image\" data_type: TYPE_FP32 dims: [ 3, 224, 224 ]"), "{config}");
    let report = stdout(&["verify", "--repository", models, "--model", "resnet18_int8"]);
    assert!(
        report.lines().count() == 2 && report.lines().all(|line| line.contains("within the tolerance")),
        "{report}"
    );

    // The same photographs from a folder give the same file.
    let again = ["build", "--arch", "resnet18", "--variants", "int8", "--output", models, "--calibration"];
    let folder = dir.path().join("photos");
    fs::create_dir(&folder).unwrap();
    for name in ["astronaut.jpg", "coffee.jpg", "rocket.jpg"] {
        fs::copy(Path::new(PHOTOS).join(name), folder.join(name)).unwrap();
    }
    let same = run(&[&again[..], &[folder.to_str().unwrap()]].concat());
    assert!(same.code == 0 && same.stderr.contains("resnet18_int8: unchanged, not rewritten"), "{}", same.stderr);
}

#[test]
fn a_calibration_that_cannot_be_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, output) = (dir.path().join("empty"), dir.path().join("models"));
    fs::create_dir(&empty).unwrap();
    let build = |variants: &str, folder: &Path| {
        let [output, folder] = [&output, folder].map(|path| path.to_str().unwrap().to_owned());
        let arguments = ["build", "--arch", "resnet18", "--output", &output, "--variants", variants];
        let built = run(&[&arguments[..], &["--calibration", &folder]].concat());
        assert_eq!(built.code, 2, "{}", built.stderr);
        built.stderr
    };
    assert!(build("fp32", &empty).contains("--calibration is for the variant int8"));
    assert!(build("int8", &empty).contains("needs at least 3 photographs"));
    assert!(build("int8", &dir.path().join("missing")).contains("missing: No such file"));
    assert!(
        build("int8", Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path()).contains("must hold images only")
    );
    assert!(!output.exists());
}
