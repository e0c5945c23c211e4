//! Models of others on the five lanes: README's commands, several outputs, another size of images, other inputs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use quintet_bench::{
    client::{endpoint::Endpoint, payload, payload::Payload, target::Target},
    model::{cell::Cell, encoding::Encoding, lane::Lane, report::Report, settings::Settings},
    run::{preflight::describe, progress::Silent, setup::Run},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    photo,
    server::{Suite, program, python},
};

/// The lanes, with the names of their listeners.
const LANES: [(Lane, &str, &str); 5] = [
    (Lane::JPEG, "jpeg", "jpeg"),
    (Lane::ONNX_HTTP, "onnx-http", "onnx-metrics"),
    (Lane::ONNX_GRPC, "onnx-grpc", "onnx-metrics"),
    (Lane::TRT_HTTP, "trt-http", "trt-metrics"),
    (Lane::TRT_GRPC, "trt-grpc", "trt-metrics"),
];

/// The models of `own_models.py`.
fn own_models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    python("own_models.py", [folder.path()]).unwrap();
    folder
}

/// The commands of README's part on one's own model: each line of its shell blocks, continued lines joined.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, part) = readme.split_once("\n## Your own model\n").unwrap();
    let part = part.split_once("\n## ").map_or(part, |(part, _)| part);
    let blocks = part.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let text = blocks.collect::<String>().replace("\\\n", " ");
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// A folder in which README's commands find what they name: the programs, the photographs, a model and its labels.
fn home() -> tempfile::TempDir {
    let home = own_models();
    let built = PathBuf::from(env!("CARGO_BIN_EXE_quintet-server"));
    let release = home.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    for name in ["quintet-server", "quintet-bench"] {
        let program = built.with_file_name(name);
        assert!(program.exists(), "there is no {}: cargo build -p {name}", program.display());
        std::os::unix::fs::symlink(program, release.join(name)).unwrap();
    }
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos").canonicalize().unwrap();
    std::os::unix::fs::symlink(photos, home.path().join("photos")).unwrap();
    home
}

/// Runs a command line in a folder; returns its stdout.
fn sh(folder: &Path, line: &str) -> String {
    let ran = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{line}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

#[test]
fn the_readmes_commands_serve_and_measure_a_model_of_ones_own() {
    let home = home();
    let mut suite: Option<Suite> = None;
    let mut answers = Vec::new();
    for line in commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[0], &suite) {
            ("target/release/quintet-server", None) => {
                let flags: Vec<&str> = words[1..].iter().map(|word| word.trim_matches('\'')).collect();
                suite = Some(Suite::of(program(&flags), home.path()));
            }
            ("target/release/quintet-server", Some(_)) => {}
            ("target/release/quintet-bench", Some(suite)) => {
                // Quickly, and at the ports that the listeners have.
                let urls: Vec<_> = LANES
                    .iter()
                    .map(|(lane, name, metrics)| {
                        let metrics = if *name == *metrics {
                            String::new()
                        } else {
                            format!("--{metrics}-url=http://127.0.0.1:{} ", suite.port(metrics))
                        };
                        format!("--{lane}-url=http://127.0.0.1:{} {metrics}", suite.port(name))
                    })
                    .collect();
                let quick = "-b 1,2 -c 2 -n 4 -w 1 --max-warmup 1 --blocks 2 -d 100ms --ramp 10ms --output results";
                answers.push(sh(home.path(), &format!("{line} {} {quick}", urls.join(" "))));
            }
            ("curl", Some(suite)) => {
                let ports = [(8002, "jpeg"), (8010, "onnx-http"), (8020, "trt-http")];
                let line = ports.iter().fold(line.clone(), |line, (port, name)| {
                    line.replace(&format!("localhost:{port}/"), &format!("127.0.0.1:{}/", suite.port(name)))
                });
                answers.push(sh(home.path(), &line));
            }
            _ => drop(sh(home.path(), &line)),
        }
    }
    let [classes, embedding, tensors, report] = &answers[..] else { panic!("{answers:?}") };
    let classes: Value = serde_json::from_str(classes).unwrap();
    let top = &classes["classifications"][0][0];
    assert_eq!(top["label"], format!("thing {}", top["index"]), "the labels beside the model: {classes}");
    let embedding: Value = serde_json::from_str(embedding).unwrap();
    assert_eq!(embedding["embeddings"][0].as_array().unwrap().len(), 10, "{embedding}");
    let tensors: Value = serde_json::from_str(tensors).unwrap();
    let output = &tensors["outputs"][0];
    assert_eq!((&output["name"], &output["shape"]), (&json!("output"), &json!([1, 10])));
    assert_eq!(output["data"], embedding["embeddings"][0], "the same numbers");
    for (lane, ..) in LANES {
        assert!(report.contains(&lane.to_string()), "{lane}: {report}");
    }
    let folder = fs::read_dir(home.path().join("results")).unwrap().next().unwrap().unwrap().path();
    let report: Report = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    assert_agree(&report, "output");
}

/// All five lanes answered every request, and each pair of them alike.
fn assert_agree(report: &Report, what: &str) {
    assert_eq!((report.failed(), report.lanes.len()), (0, 5), "{what}: {:?}", report.warnings);
    let outputs = &report.outputs;
    assert!(outputs.missing.is_empty() && outputs.pairs.len() == 10, "{what}: {outputs:?}");
    assert!(outputs.pairs.iter().all(|pair| pair.agree && pair.scale > 0.0), "{what}: {outputs:?}");
}

fn targets(suite: &Suite, model: &str) -> Vec<Target> {
    let at = |listener: &str| Endpoint::local(suite.port(listener));
    let target = |(lane, name, metrics): (Lane, &str, &str)| Target {
        lane,
        endpoint: at(name),
        metrics: at(metrics),
        model: model.into(),
    };
    LANES.map(target).to_vec()
}

/// `quintet-bench run --model MODEL --payload PAYLOADS` on the five lanes: no name of a tensor.
fn measure(suite: &Suite, model: &str, payloads: Vec<Encoding>) -> Report {
    let settings = Settings {
        model: model.into(),
        payloads,
        batches: vec![1, 2],
        concurrency: Vec::new(),
        iterations: 2,
        warmup: 1,
        max_warmup: 1,
        blocks: 1,
        ..Settings::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let targets = targets(suite, model);
        let described = describe(&targets[1], settings.limits).await.unwrap().signature.unwrap();
        let preparation = described.images(Encoding::Fp32).unwrap().1;
        let payload = Payload::prepared(&payload::compiled_in(), 2, &preparation).unwrap().with_small().unwrap();
        let run = Run {
            settings,
            targets,
            payload,
            output: folder.path().to_owned(),
            progress: &Silent,
            resume: None,
            stop: CancellationToken::new().into(),
        };
        run.run().await.unwrap().report
    })
}

/// A suite with one of the models of `own_models.py`.
fn serve(folder: &Path, model: &str, flags: &[&str]) -> Suite {
    let repository = folder.join("repository");
    let mut command = program(&["suite", "--model", model, "--model-repository"]);
    command.arg(repository).args(flags);
    Suite::of(command, folder)
}

/// The answer of the jpeg lane to a photograph and fields of a form.
fn ask(suite: &Suite, path: &str, more: &str) -> Value {
    let url = format!("http://127.0.0.1:{}{path}", suite.port("jpeg"));
    let answer = sh(Path::new("."), &format!("curl -s -F 'image=@{}' {more} '{url}'", photo("coffee.jpg")));
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn an_embedding_is_found_by_its_shape_and_its_parameters_can_be_flags() {
    let models = own_models();
    let parameters = ["image_preprocess=crop", "image_mean=0.48,0.46,0.41", "image_std=0.27,0.26,0.28"];
    let flags = parameters.map(|parameter| format!("--model-parameter={parameter}"));
    let suite = serve(models.path(), "clip", &flags.each_ref().map(String::as_str));
    let answer = ask(&suite, "/embed", "");
    assert_eq!(answer["embeddings"][0].as_array().unwrap().len(), 512, "image_embeds");
    // As the server prepares images, so does the client.
    let report = measure(&suite, "clip", vec![Encoding::Fp32, Encoding::Jpeg, Encoding::Jpeg224]);
    assert_agree(&report, "clip");
    assert!(report.client_resize_ms.is_some());
    // Single images and batches of each payload that is not exact, on each lane.
    let compared = |payload| report.outputs.payloads.iter().filter(move |found| found.payload == payload);
    assert_eq!((compared(Encoding::Jpeg).count(), compared(Encoding::Jpeg224).count()), (2 * 4, 2 * 5));
    assert!(compared(Encoding::Jpeg).all(|found| found.min_cosine > Some(0.999_999)), "the same numbers");
    for found in compared(Encoding::Jpeg224) {
        let images = if found.batch == 1 { report.photographs.len() } else { found.batch };
        assert!(found.images == images && found.top1.is_some() && found.missing.is_none(), "{found:?}");
        assert!(found.min_cosine > Some(0.99) && found.min_cosine < Some(1.0), "a JPEG loses something: {found:?}");
    }
    let smaller = |cell: &&Cell| cell.payload == Some(Encoding::Jpeg224);
    assert!(report.cells.iter().filter(smaller).all(|cell| cell.charged_p50_ms.is_some()));
}

#[test]
fn a_detector_answers_with_all_its_outputs_on_every_lane() {
    let models = own_models();
    let suite = serve(models.path(), "detector", &[]);
    let answer = ask(&suite, "/infer", "");
    let outputs: Vec<_> =
        answer["outputs"].as_array().unwrap().iter().map(|output| (&output["name"], &output["shape"])).collect();
    assert_eq!(outputs, [(&json!("boxes"), &json!([1, 4, 100])), (&json!("scores"), &json!([1, 2, 50]))]);
    let some = ask(&suite, "/infer?outputs=scores", "");
    assert_eq!((some["outputs"].as_array().unwrap().len(), &some["outputs"][0]), (1, &answer["outputs"][1]));
    let refused = ask(&suite, "/embed", "");
    assert!(refused["error"].as_str().unwrap().contains("ask for all at /infer"), "{refused}");
    assert_agree(&measure(&suite, "detector", Vec::new()), "detector, base64 and FP32");
    assert_agree(&measure(&suite, "detector", vec![Encoding::Jpeg]), "detector, JPEG");
}

#[test]
fn an_input_beside_the_image_is_sent_with_it() {
    let models = own_models();
    let suite = serve(models.path(), "gated", &[]);
    let gain = |gain: f32| {
        let inputs = json!([{"name": "gain", "datatype": "FP32", "shape": [1, 1], "data": [gain]}]);
        let answer = ask(&suite, "/embed", &format!("-F 'inputs={inputs}'"));
        let features: Vec<f32> = serde_json::from_value(answer["embeddings"][0].clone()).unwrap();
        features
    };
    let (one, two) = (gain(1.0), gain(2.0));
    assert_eq!(one.len(), 8);
    assert!(one.iter().zip(&two).all(|(one, two)| *two == 2.0 * one), "{one:?} {two:?}");
    let refused = ask(&suite, "/infer", "");
    assert!(refused["error"].as_str().unwrap().contains("gain"), "{refused}");
    let output = suite.python("own_inputs.py", &[&photo("coffee.jpg"), &serde_json::to_string(&one).unwrap()]);
    assert!(output.ends_with("4 lanes agree\n"), "{output}");
}
