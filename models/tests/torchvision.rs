//! Compares the models' outputs with those of torchvision's ResNets, at every depth.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod common;

use std::{fs, path::Path};

use common::{run, stdout};

/// Builds an ONNX model from a .safetensors file, runs it in ONNX Runtime, and compares the outputs with PyTorch's.
fn check_against_torchvision(arch: &str) {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("weights.safetensors");
    let weights = weights.to_str().unwrap();
    let models = dir.path().join("models");
    let models = models.to_str().unwrap();
    let reference = format!("{}/reference/{arch}.safetensors", env!("CARGO_MANIFEST_DIR"));

    stdout(&["weights", "--arch", arch, "--seed", "0", "--output", weights]);
    let written = stdout(&["build", "--arch", arch, "--weights", weights, "--output", models]);
    let names = ["", "_fp16", "_u8"].map(|suffix| format!("{arch}{suffix}"));
    assert_eq!(written, names.each_ref().map(|name| format!("{models}/{name}\n")).concat());
    for name in &names {
        let report = stdout(&["verify", "--repository", models, "--model", name, "--reference", &reference]);
        let tolerance = if name.ends_with("_fp16") { "5e-3" } else { "1e-4" };
        for (line, output) in report.lines().zip(["logits", "embedding"]) {
            assert!(line.starts_with(&format!("{name} {output}: max abs error ")), "{line}");
            assert!(line.ends_with(&format!("over 3 images, within the tolerance {tolerance}")), "{line}");
        }
        assert_eq!(report.lines().count(), 2);
    }
}

#[test]
fn resnet18_equals_torchvision() {
    check_against_torchvision("resnet18");
}

#[test]
fn resnet34_equals_torchvision() {
    check_against_torchvision("resnet34");
}

#[test]
fn resnet50_equals_torchvision() {
    check_against_torchvision("resnet50");
}

#[test]
fn resnet101_equals_torchvision() {
    check_against_torchvision("resnet101");
}

#[test]
fn resnet152_equals_torchvision() {
    check_against_torchvision("resnet152");
}

#[test]
fn without_a_reference_file_only_seed_0_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().to_str().unwrap();
    let verify = ["verify", "--repository", models, "--model", "resnet18"];

    stdout(&["build", "--arch", "resnet18", "--variants", "fp32", "--output", models]);
    assert!(stdout(&verify).contains("resnet18 logits: max abs error "));

    stdout(&["build", "--arch", "resnet18", "--variants", "fp32", "--seed", "1", "--output", models]);
    let other = run(&verify);
    assert_eq!(other.code, 2, "{other:?}");
    assert!(other.stderr.contains("weights are from seed 1"), "{other:?}");
    assert!(other.stderr.contains("give --reference"), "{other:?}");
}

#[test]
fn a_difference_beyond_the_tolerance_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().to_str().unwrap();
    stdout(&["build", "--arch", "resnet18", "--seed", "1", "--variants", "fp32,u8", "--output", models]);
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/resnet18.safetensors");
    let verify = |extra: &[&str]| {
        let plain = ["verify", "--repository", models, "--model", "resnet18", "--reference", reference];
        run(&[&plain, extra].concat())
    };

    let other_weights = verify(&[]);
    assert_eq!(other_weights.code, 1, "{other_weights:?}");
    assert!(other_weights.stdout.contains("BEYOND the tolerance 1e-4"), "{other_weights:?}");
    assert_eq!(verify(&["--tolerance", "100"]).code, 0);

    // The u8 model under the name of the FP32 model.
    fs::copy(dir.path().join("resnet18_u8/1/model.onnx"), dir.path().join("resnet18/1/model.onnx")).unwrap();
    let wrong_input = verify(&[]);
    assert_eq!(wrong_input.code, 2);
    assert!(wrong_input.stderr.contains("`image` is "), "{wrong_input:?}");
}

#[test]
fn verify_names_a_model_that_it_cannot_run() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().to_str().unwrap();
    let message = |model: &str| {
        let output = run(&["verify", "--repository", models, "--model", model]);
        assert_eq!(output.code, 2, "{output:?}");
        output.stderr
    };
    assert!(message("resnet18").contains("there is no model at"));
    assert!(message("vgg16").contains("`vgg16` is not a ResNet"));
    fs::create_dir_all(dir.path().join("resnet18/1")).unwrap();
    fs::write(dir.path().join("resnet18/1/model.onnx"), "no model").unwrap();
    assert!(message("resnet18").contains("resnet18/1/model.onnx: "));
}

#[test]
fn rejects_conflicting_arguments() {
    let weights = Path::new("weights.safetensors").to_str().unwrap();
    let both = run(&["build", "--arch", "resnet18", "--weights", weights, "--seed", "1", "--output", "x"]);
    assert_eq!(both.code, 2);
    let two = ["build", "--arch", "resnet18", "--arch", "resnet34", "--weights", weights, "--output", "x"];
    assert!(run(&two).stderr.contains("holds the weights of one --arch"));
    let warm = ["build", "--arch", "resnet18", "--max-batch-size", "4", "--warm-batch-sizes", "8", "--output", "x"];
    assert!(run(&warm).stderr.contains("cannot warm up a batch of 8"));
    assert!(!Path::new("x").exists());
}

#[test]
fn list_shows_every_depth() {
    insta::assert_snapshot!(stdout(&["list"]));
}
