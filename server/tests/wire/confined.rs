//! A configuration that comes with a load request names no file outside of the model's folder.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use quintet_engine::ErrorKind;
use quintet_models::passthrough;
use quintet_server::repository::{Mode, Overrides, Repository};
use serde_json::{Value, json};

use crate::support::{Server, attach, over_http, start};

const SECRET: &str = "secret";

/// A repository with `identity`, a folder beside it that nobody may read, and links from the one to the other.
struct Setting {
    server: Server,
    repository: Arc<Repository>,
    root: tempfile::TempDir,
    outside: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        passthrough::write(root.path(), Some(4)).unwrap();
        let folder = root.path().join("identity");
        // Each secret would serve, if it were read: as labels, as data of a row, as a model.
        fs::write(outside.path().join("labels"), format!("{SECRET}\nb\nc\nd\n")).unwrap();
        fs::write(outside.path().join("data"), [0; 16]).unwrap();
        fs::copy(folder.join("1/model.onnx"), outside.path().join("model")).unwrap();
        fs::create_dir(folder.join("warmup")).unwrap();
        fs::create_dir(outside.path().join("sub")).unwrap();
        for (file, part) in [("labels", ""), ("model", "1"), ("data", "warmup")] {
            let part = folder.join(part);
            fs::create_dir(part.join("sub")).unwrap();
            fs::copy(outside.path().join(file), part.join("inside")).unwrap();
            fs::copy(outside.path().join(file), part.join("sub/inside")).unwrap();
            symlink("inside", part.join("link_inside")).unwrap();
            symlink(outside.path().join(file), part.join("link")).unwrap();
            symlink("link", part.join("link_to_link")).unwrap();
            symlink(outside.path(), part.join("folder")).unwrap();
            symlink("../link", part.join("sub/link")).unwrap();
            symlink(outside.path().join("sub"), part.join("deep")).unwrap();
        }
        fs::write(folder.join("labels"), "a\nb\nc\nd\n").unwrap();
        let server = start().await;
        let repository = attach(&server, root.path(), Mode::Explicit);
        Self { server, repository, root, outside }
    }

    async fn load(&self, config: &Value) -> Result<(), String> {
        let mut overrides = Overrides::default();
        overrides.insert("config", config.to_string().into()).unwrap();
        self.repository.load("identity", overrides).await.map_err(|error| error.to_string())
    }

    /// The labels of the model in service.
    fn labels(&self) -> Option<Vec<String>> {
        let model = self.server.service.catalog().registry().resolve("identity", None).ok()?;
        model.spec().outputs()[0].labels.as_ref().map(|labels| labels.to_vec())
    }
}

/// The configuration of `identity` with `name` in this field.
fn config(field: &str, name: &str) -> Value {
    let mut config = json!({
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
        "instance_group": [{"kind": "KIND_CPU"}],
    });
    match field {
        "output.label_filename" => config["output"][0]["label_filename"] = name.into(),
        "default_model_filename" => config[field] = name.into(),
        "model_warmup.inputs.input_data_file" => {
            config["model_warmup"] = json!([{"name": "w", "batch_size": 1, "inputs": {
                "x": {"data_type": "TYPE_FP32", "dims": [4], "input_data_file": name}
            }}]);
        }
        option => {
            let accelerator = json!({"name": "tensorrt", "parameters": {option: name}});
            config["optimization"] = json!({"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}});
        }
    }
    config
}

/// The fields that name a file, and the file that each is for.
const FIELDS: [(&str, &str); 3] = [
    ("output.label_filename", "labels"),
    ("default_model_filename", "model"),
    ("model_warmup.inputs.input_data_file", "data"),
];

/// Ways to write the path of a file outside.
fn ways(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let (bare, up) = (&path[1..], "../".repeat(20));
    let (folder, file) = path.rsplit_once('/').unwrap();
    vec![
        path.to_owned(),
        format!("/{path}"),
        format!("//{path}"),
        format!("/.{path}"),
        format!("/..{path}"),
        format!("/etc/..{path}"),
        format!("{folder}/./{file}"),
        format!("{folder}//{file}"),
        format!("{folder}/../{}/{file}", folder.rsplit_once('/').unwrap().1),
        format!("/proc/self/root{path}"),
        format!("/proc/thread-self/root{path}"),
        format!("/proc/self/cwd/{up}{bare}"),
        format!("/proc/{}/root{path}", std::process::id()),
        format!("/dev/fd/../root{path}"),
        format!("{up}{bare}"),
        format!("./{up}{bare}"),
        format!("sub/../{up}{bare}"),
        format!("sub/{up}{bare}"),
        format!("inside/../{up}{bare}"),
        format!("nosuch/../{up}{bare}"),
        format!("..//..//{up}{bare}"),
        format!(".././.././{up}{bare}"),
        format!("....//....//{up}{bare}"),
        format!("deep/../{file}"),
        format!("deep/../../{}/{file}", folder.rsplit_once('/').unwrap().1),
        format!("sub/../deep/../{file}"),
        format!("folder/sub/../{file}"),
        "link".to_owned(),
        "./link".to_owned(),
        "sub//link".to_owned(),
        "sub/link".to_owned(),
        "sub/../link".to_owned(),
        "link_to_link".to_owned(),
        format!("folder/{file}"),
        format!("folder//{file}"),
        format!("folder/./{file}"),
        format!("folder/../{}/{file}", folder.rsplit_once('/').unwrap().1),
        format!("file:{path}"),
        format!("file://{path}"),
        format!("FILE://localhost{path}"),
        format!("..%2f..%2f..%2f{bare}"),
        format!("%2f{bare}"),
        path.replace('/', "\\"),
        up.replace('/', "\\") + bare,
        format!("..\\/{up}{bare}"),
        format!("{path}\0"),
        format!("{path}\0inside"),
        format!("\0{path}"),
        format!("inside\0/{up}{bare}"),
        format!(" {path}"),
        format!("{path} "),
        format!("{path}/"),
        format!("{path}/."),
        format!("~{path}"),
        format!("$PWD/{up}{bare}"),
        "..".to_owned(),
        ".".to_owned(),
        "/".to_owned(),
        "link/".to_owned(),
        "link/.".to_owned(),
    ]
}

#[tokio::test]
async fn no_way_to_name_a_file_outside_reads_it() {
    let setting = Setting::new().await;
    let mut refused = 0;
    for (field, file) in FIELDS {
        for name in ways(&setting.outside.path().join(file)) {
            let error = setting.load(&config(field, &name)).await.expect_err(&format!("{field}: {name:?} was read"));
            assert_eq!(setting.labels(), None, "{field}: {name:?}");
            // Refused for what it names, or nothing is there of this name.
            let is_named = error.contains(&format!("config: field '{field}': "))
                && error.contains("put the file there, or set the field in config.pbtxt");
            let is_missing = ["No such file", "Not a directory", "has no model file", "Is a directory"]
                .iter()
                .any(|it| error.contains(it));
            let is_inside = !name.starts_with('/') && !name.contains("../");
            assert!(is_named || (is_inside && is_missing), "{field}: {name:?}: {error}");
            refused += 1;
        }
    }
    println!("{refused} ways to name a file outside, none of which was read");
    assert!(refused >= 100);
}

#[tokio::test]
async fn files_inside_are_read_and_links_to_them_followed() {
    let setting = Setting::new().await;
    for (field, _) in FIELDS {
        for name in ["inside", "sub/inside", "link_inside", "sub//inside"] {
            setting.load(&config(field, name)).await.unwrap();
        }
    }
    setting.load(&config("output.label_filename", "labels")).await.unwrap();
    assert_eq!(setting.labels().unwrap(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn what_the_models_own_configuration_names_may_be_sent_again() {
    let setting = Setting::new().await;
    let labels = setting.outside.path().join("labels");
    let path = setting.root.path().join("identity/config.pbtxt");
    let own = fs::read_to_string(&path).unwrap();
    let named = format!("dims: [ 4 ] label_filename: {labels:?}");
    let (inputs, output) = own.rsplit_once("dims: [ 4 ]").unwrap();
    fs::write(&path, format!("{inputs}{named}{output}")).unwrap();
    setting.load(&config("output.label_filename", labels.to_str().unwrap())).await.unwrap();
    assert_eq!(setting.labels().unwrap()[0], SECRET, "the owner shows it to everyone");
    let other = setting.outside.path().join("data");
    setting.load(&config("output.label_filename", other.to_str().unwrap())).await.unwrap_err();
}

#[tokio::test]
async fn a_configuration_among_the_files_of_a_request_is_not_the_owners() {
    let setting = Setting::new().await;
    let labels = setting.outside.path().join("labels");
    let config = config("output.label_filename", labels.to_str().unwrap());
    let mut overrides = Overrides::default();
    overrides.insert("config", config.to_string().into()).unwrap();
    let model = fs::read(setting.root.path().join("identity/1/model.onnx")).unwrap();
    overrides.insert("file:1/model.onnx", model.into()).unwrap();
    let pbtxt = format!("output {{ name: \"y\" data_type: TYPE_FP32 dims: 4 label_filename: {labels:?} }}");
    overrides.insert("file:config.pbtxt", pbtxt.into()).unwrap();
    let error = setting.repository.load("identity", overrides).await.unwrap_err().to_string();
    assert!(error.contains("field 'output.label_filename'"), "{error}");
}

#[tokio::test]
async fn options_that_use_files_or_load_code_are_refused() {
    let setting = Setting::new().await;
    let options = [
        ("trt_extra_plugin_lib_paths", "/tmp/x.so"),
        ("trt_engine_cache_path", "cache"),
        ("trt_engine_cache_prefix", "../x"),
        ("trt_engine_cache_enable", "true"),
        ("trt_timing_cache_enable", "1"),
        ("trt_timing_cache_path", "0"),
        ("trt_ep_context_file_path", "model_ctx.onnx"),
        ("trt_dump_ep_context_model", "1"),
        ("trt_dump_subgraphs", "1"),
        ("trt_int8_calibration_table_name", "table"),
        ("int8_calibration_table_name", "/etc/passwd"),
    ];
    for (option, value) in options {
        let error = setting.load(&config(option, value)).await.unwrap_err();
        let told =
            format!("failed to load 'identity': config: field 'gpu_execution_accelerator.parameters[\"{option}\"]'");
        assert!(error.starts_with(&told) && error.ends_with("set the option in config.pbtxt"), "{error}");
    }
    setting.load(&config("trt_engine_cache_enable", "false")).await.unwrap();
    setting.load(&config("precision_mode", "FP16")).await.unwrap();
}

#[tokio::test]
async fn over_http_a_foreign_label_file_is_a_wrong_request() {
    let setting = Setting::new().await;
    let port = setting.server.http().await;
    let config = config("output.label_filename", "/etc/passwd").to_string();
    let body = json!({"parameters": {"config": config}}).to_string();
    let answer = over_http(port, "POST", "/v2/repository/models/identity/load", &body).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("leads out of the model's folder"), "{answer}");
}

#[tokio::test]
async fn torchscript_files_are_refused() {
    let setting = Setting::new().await;
    for (field, value) in [("backend", "pytorch"), ("platform", "pytorch_libtorch")] {
        let mut overrides = Overrides::default();
        let config = json!({field: value, "max_batch_size": 8});
        overrides.insert("config", config.to_string().into()).unwrap();
        overrides.insert("file:1/model.pt", "PK".into()).unwrap();
        let error = setting.repository.load("script", overrides).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("a TorchScript file is a program"), "{error}");
    }
}
