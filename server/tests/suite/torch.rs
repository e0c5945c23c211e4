//! The jpeg lane on libtorch against the others on ONNX Runtime. `make test-torch` runs this.

use quintet_models::{Arch, Weights};

use crate::{
    photo,
    server::{MODEL, Suite},
    tensor,
};

#[test]
fn the_jpeg_lane_on_torch_agrees_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("resnet18.safetensors");
    Weights::from_seed(Arch::ResNet18, 0).save(&weights).unwrap();
    let suite = Suite::start(&["--jpeg-weights", weights.to_str().unwrap()]);
    let log = suite.log();
    let line = log.lines().find(|line| line.contains("model is ready") && line.contains("\"jpeg\""));
    assert!(line.is_some_and(|line| line.contains("runs_on=libtorch CPU; cuda: libtorch finds no GPU")), "{log}");
    let told = suite.python("lanes.py", &[MODEL, &photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(told.ends_with("11 ways on 5 lanes agree\n"), "{told}");
}
