//! Tests of libtorch: the jpeg lane compared with the lanes on ONNX Runtime, and TorchScript files in a repository.
//! `make test-optional` runs them.

use std::{collections::HashMap, fs, path::Path};

use quintet_models::{Arch, Weights};
use tch::{CModule, Device, Kind, Tensor};

use crate::{
    photo,
    server::{MODEL, Suite, models, program, python},
    tensor,
};

/// The weights of all tests, and the same network as TorchScript that returns logits and embedding.
fn files(folder: &Path) -> [String; 2] {
    let (weights, script) = (folder.join("resnet18.safetensors"), folder.join("resnet18.pt"));
    Weights::from_seed(Arch::ResNet18, 0).save(&weights).unwrap();
    let tensors: HashMap<String, Tensor> = Tensor::read_safetensors(&weights).unwrap().into_iter().collect();
    let images = Tensor::zeros([1, 3, 224, 224], (Kind::Float, Device::Cpu));
    trace(&script, &[images], |inputs| Tensor::cat(&resnet18(&tensors, &inputs[0]), 1));
    python("tuple_results.py", [&script]).unwrap();
    [weights, script].map(|path| path.to_str().unwrap().to_owned())
}

fn resnet18(weights: &HashMap<String, Tensor>, images: &Tensor) -> Vec<Tensor> {
    let weight = |name: String| &weights[&name];
    let conv = |x: &Tensor, conv: &str, norm: &str, stride: i64| {
        let kernel = weight(format!("{conv}.weight"));
        let padding = kernel.size()[3] / 2;
        let x = x.conv2d(kernel, None::<&Tensor>, [stride, stride], [padding, padding], [1, 1], 1);
        let part = |part: &str| Some(weight(format!("{norm}.{part}")));
        x.batch_norm(part("weight"), part("bias"), part("running_mean"), part("running_var"), false, 0.0, 1e-5, true)
    };
    let mut x = conv(images, "conv1", "bn1", 2).relu().max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
    for (layer, block) in (1..=4).flat_map(|layer| [(layer, 0), (layer, 1)]) {
        let name = |part: &str| format!("layer{layer}.{block}.{part}");
        let stride = if layer > 1 && block == 0 { 2 } else { 1 };
        let y = conv(&x, &name("conv1"), &name("bn1"), stride).relu();
        let y = conv(&y, &name("conv2"), &name("bn2"), 1);
        let [kernel, norm] = [name("downsample.0"), name("downsample.1")];
        let short = weights.contains_key(&format!("{kernel}.weight")).then(|| conv(&x, &kernel, &norm, stride));
        x = (y + short.unwrap_or(x)).relu();
    }
    let embedding = x.adaptive_avg_pool2d([1, 1]).flatten(1, -1);
    let logits = embedding.matmul(&weight("fc.weight".into()).transpose(0, 1)) + weight("fc.bias".into());
    vec![logits, embedding]
}

/// Traces `network` on these inputs and writes it as TorchScript.
fn trace(path: &Path, inputs: &[Tensor], network: impl Fn(&[Tensor]) -> Tensor) {
    let mut network = |inputs: &[Tensor]| vec![network(inputs)];
    CModule::create_by_tracing("Network", "forward", inputs, &mut network).unwrap().save(path).unwrap();
}

/// Writes a model with this file and configuration into a repository.
fn put(root: &Path, name: &str, file: &str, config: &str) {
    fs::create_dir_all(root.join(name).join("1")).unwrap();
    fs::copy(file, root.join(name).join("1/model.pt")).unwrap();
    fs::write(root.join(name).join("config.pbtxt"), config).unwrap();
}

#[test]
fn the_jpeg_lane_on_torch_agrees_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for file in files(folder.path()) {
        let suite = Suite::start(&["--jpeg-weights", &file]);
        let log = suite.log();
        let line = log.lines().find(|line| line.contains("model is ready") && line.contains("\"jpeg\""));
        assert!(line.is_some_and(|line| line.contains("runs_on=libtorch CPU; cuda: libtorch finds no GPU")), "{log}");
        let output = suite.python("lanes.py", &[MODEL, &photo("astronaut.jpg"), &tensor(folder.path())]);
        assert!(output.ends_with("11 clients on 5 lanes agree\n"), "{output}");
    }
}

#[test]
fn torchscript_in_a_repository_agrees_with_onnx_and_accepts_tritons_names() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [_, script] = files(folder.path());
    std::os::unix::fs::symlink(models().join(MODEL), root.path().join(MODEL)).unwrap();
    let config = "platform: \"pytorch_libtorch\" max_batch_size: 4
        input { name: \"INPUT__0\" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
        output { name: \"OUTPUT__1\" data_type: TYPE_FP32 dims: 512 }
        output { name: \"OUTPUT__0\" data_type: TYPE_FP32 dims: 1000 }";
    put(root.path(), "script", &script, config);

    // a - b and a + b, of int64; the configuration lists b first.
    let pair = folder.path().join("pair.pt");
    let example = [1, 2].map(|value| Tensor::full([1, 2], value, (Kind::Int64, Device::Cpu)));
    trace(&pair, &example, |inputs| Tensor::cat(&[&inputs[0] - &inputs[1], &inputs[0] + &inputs[1]], 1));
    python("tuple_results.py", [&pair]).unwrap();
    let config = "backend: \"pytorch\" max_batch_size: 8
        input { name: \"INPUT__1\" data_type: TYPE_INT64 dims: 2 }
        input { name: \"INPUT__0\" data_type: TYPE_INT64 dims: 2 }
        output { name: \"OUTPUT__0\" data_type: TYPE_INT64 dims: 2 }
        output { name: \"OUTPUT__1\" data_type: TYPE_INT64 dims: 2 }";
    put(root.path(), "pair", pair.to_str().unwrap(), config);

    let server = Suite::triton(root.path(), &[]);
    let output = server.python("torchscript.py", &[MODEL, &tensor(folder.path())]);
    assert!(output.ends_with("torchscript ok\n"), "{output}");
}

#[test]
fn reports_an_invalid_file_or_configuration_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("double.pt");
    let example = [Tensor::zeros([1, 2], (Kind::Float, Device::Cpu))];
    trace(&script, &example, |inputs| &inputs[0] + &inputs[0]);
    let text = folder.path().join("text.pt");
    fs::write(&text, "no model").unwrap();
    let config = |input: &str, output: &str| {
        format!(
            "backend: \"pytorch\" max_batch_size: 2 input {{ name: \"INPUT__0\" {input} }} output {{ name: \"OUTPUT__0\" \
             {output} }}"
        )
    };
    let floats = "data_type: TYPE_FP32 dims: 2";
    for (file, input, output, message) in [
        (&text, floats, floats, "1/model.pt: it is not a TorchScript file: "),
        (
            &script,
            floats,
            "data_type: TYPE_INT32 dims: 2",
            "output 'OUTPUT__0' is configured as INT32 but the model gives Float",
        ),
        (
            &script,
            floats,
            "data_type: TYPE_FP32 dims: 3",
            "output 'OUTPUT__0' has shape [-1, 3] in the configuration but [1,2] from the model",
        ),
        (&script, "data_type: TYPE_UINT32 dims: 2", floats, "'INPUT__0' is UINT32, which libtorch does not have"),
        (&script, "dims: 2", floats, "'INPUT__0' must have a data_type, because a TorchScript file does not say"),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "m", file.to_str().unwrap(), &config(input, output));
        let mut command = program(&["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--model-repository"]);
        let output = command.arg(root.path()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(message), "{message}: {stderr}");
    }
}
