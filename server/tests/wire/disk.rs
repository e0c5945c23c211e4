//! Repositories as they are on disks: junk, names of any characters, versions that are none; and who is not ready.

use std::{fs, path::Path};

use bytes::Bytes;
use quintet_models::passthrough::write_scaled;
use quintet_proto::inference::ServerReadyRequest;
use quintet_server::repository::{Mode, Overrides};

use crate::support::{attach, over_http, raw, start};

/// Writes the model that multiplies, as `name`, and returns its folder.
fn write(root: &Path, name: &str) -> std::path::PathBuf {
    let scaled = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    write_scaled(scaled.path()).unwrap();
    let folder = root.join(name);
    fs::rename(scaled.path().join("scaled"), &folder).unwrap();
    let config = fs::read_to_string(folder.join("config.pbtxt")).unwrap();
    fs::write(folder.join("config.pbtxt"), config.replace("name: \"scaled\"", "")).unwrap();
    folder
}

const BODY: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#;

#[tokio::test]
async fn a_model_may_have_any_name_that_a_folder_and_a_text_have() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let root = folder.path().join("models");
    fs::create_dir(&root).unwrap();
    let name = "d\u{e9}j\u{e0} vu?a=1&b=%41#\"{x}\"";
    write(&root, name);
    for junk in ["lost+found/1", "__pycache__", "line\nbreak/1"] {
        fs::create_dir_all(root.join(junk)).unwrap();
    }
    let repository = attach(&server, &root, Mode::None);
    let names = repository.names_on_disk().unwrap();
    assert_eq!(names, [name]);
    assert!(repository.start(&names).await.is_empty());
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let port = server.http().await;
    let answer = over_http(port, "POST", &format!("/v2/models/{encoded}/infer"), BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let one = 1f32.to_le_bytes().to_vec();
    server.client().await.model_infer(raw(name, "FP32", &[1, 1], one)).await.unwrap();
    let config = over_http(port, "GET", &format!("/v2/models/{encoded}/config"), "").await;
    assert!(config.starts_with("HTTP/1.1 200"), "{config}");
    let metrics = server.service.catalog().render_metrics(quintet_server::observe::metrics::Format::Text);
    assert!(
        metrics.contains("nv_inference_count{model=\"d\u{e9}j\u{e0} vu?a=1&b=%41#\\\"{x}\\\"\",version=\"1\"} 2\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn readiness_names_the_models_that_are_not_ready_and_why() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let root = folder.path().join("models");
    fs::create_dir(&root).unwrap();
    fs::rename(write(&root, "empty").join("1"), root.join("empty/01")).unwrap();
    fs::remove_file(write(&root, "moved").join("1/model.onnx")).unwrap();
    fs::write(root.join("moved/1/model.plan"), "").unwrap();
    let repository = attach(&server, &root, Mode::Explicit);
    let port = server.http().await;
    let before = over_http(port, "GET", "/v2/health/ready", "").await;
    assert!(
        before.starts_with("HTTP/1.1 503") && before.contains("not ready: models are still to be loaded"),
        "{before}"
    );
    let names = repository.names_on_disk().unwrap();
    assert_eq!(repository.start(&names).await.len(), 2);
    let answer = over_http(port, "GET", "/v2/health/ready", "").await;
    let words = [
        "not ready: model 'empty' version 1 failed: model 'empty' has no version to serve in ",
        "it has '01', but the folder of a version is a whole number from 1 on, without zeros in front",
        "model 'moved' version 1 failed: model 'moved' has no model file ",
        "/models/moved/1 holds model.plan: put the file there",
    ];
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    for words in words {
        assert!(answer.contains(words), "{words}: {answer}");
    }
    let ready = server.client().await.server_ready(ServerReadyRequest {}).await.unwrap();
    let reason = ready.metadata().get("quintet-not-ready").unwrap().to_str().unwrap();
    assert!(!ready.get_ref().ready && reason.starts_with(words[0]), "{reason}");
    for name in names {
        repository.unload(&name, false).await.unwrap();
    }
    let answer = over_http(port, "GET", "/v2/health/ready", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let ready = server.client().await.server_ready(ServerReadyRequest {}).await.unwrap();
    assert!(ready.get_ref().ready && !ready.metadata().contains_key("quintet-not-ready"));
}

#[tokio::test]
async fn a_version_without_its_file_fails_alone() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let root = folder.path().join("models");
    fs::create_dir(&root).unwrap();
    let model = write(&root, "m");
    let config = fs::read_to_string(model.join("config.pbtxt")).unwrap();
    fs::write(model.join("config.pbtxt"), config + "\nversion_policy { all { } }\n").unwrap();
    fs::create_dir(model.join("3")).unwrap();
    let repository = attach(&server, &root, Mode::None);
    let failed = repository.start(&["m".to_owned()]).await;
    assert!(
        failed[0].1.to_string().contains("version 3 is at UNAVAILABLE state: model 'm' has no model file"),
        "{failed:?}"
    );
    let answer = over_http(server.http().await, "POST", "/v2/models/m/versions/1/infer", BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn errors_name_what_the_client_sent_and_what_was_read() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let root = folder.path().join("models");
    fs::create_dir(&root).unwrap();
    let repository = attach(&server, &root, Mode::Explicit);
    assert!(repository.start(&[]).await.is_empty());
    let load = async |config: &str, file: Option<&str>| {
        let mut overrides = Overrides::default();
        overrides.insert("config", Bytes::from(config.to_owned())).unwrap();
        if let Some(file) = file {
            overrides.insert(file, Bytes::from_static(b"not a model")).unwrap();
        }
        repository.load("m", overrides).await.unwrap_err().to_string()
    };
    let error = load("{}", Some("file:1/model.onnx")).await;
    assert!(error.contains("cannot load file:1/model.onnx") && !error.contains("/tmp"), "{error}");
    let error = load("{}", Some("file:1/other.onnx")).await;
    assert!(error.contains("has no model file file:1/model.onnx; file:1 holds other.onnx"), "{error}");
    let model = write(&root, "m");
    let int8 = r#"{"input":[{"name":"x","data_type":"TYPE_INT8"}]}"#;
    let error = load(int8, None).await;
    assert!(error.contains("the configuration of the load request: input 'x' is configured as INT8"), "{error}");
    fs::remove_file(model.join("config.pbtxt")).unwrap();
    fs::write(model.join("config.pbtxt"), "input { name: \"x\" data_type: TYPE_INT8 }").unwrap();
    let error = repository.load("m", Overrides::default()).await.unwrap_err().to_string();
    assert!(error.contains("models/m/config.pbtxt: input 'x' is configured as INT8"), "{error}");
}
