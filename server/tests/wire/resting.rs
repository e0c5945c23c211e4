//! `--idle-unload-secs`: models that close their files while no request comes.

use std::{fs, time::Duration};

use quintet_models::passthrough::write_scaled;
use quintet_server::repository::Mode;

use crate::support::{attach_resting, over_http, start};

#[tokio::test]
async fn a_model_that_rests_is_ready_and_answers_as_before() {
    let root = tempfile::tempdir().unwrap();
    write_scaled(root.path()).unwrap();
    let server = start().await;
    let repository = attach_resting(&server, root.path(), Mode::None, Some(Duration::from_millis(20)));
    assert!(repository.start(&["scaled".to_owned()]).await.is_empty());
    let body = r#"{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}"#;
    let port = server.http().await;
    let infer = || over_http(port, "POST", "/v2/models/scaled/infer", body);
    let before = infer().await;
    assert!(before.starts_with("HTTP/1.1 200"), "{before}");

    // Without its file it can only be open if it never rested since.
    let (file, elsewhere) = (root.path().join("scaled/1/model.onnx"), root.path().join("elsewhere.onnx"));
    fs::rename(&file, &elsewhere).unwrap();
    let refusal = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let answer = infer().await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
    };
    assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
    assert!(refusal.contains("have changed since it was loaded: load it again"), "{refusal}");
    let ready = over_http(port, "GET", "/v2/models/scaled/ready", "").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

    fs::rename(&elsewhere, &file).unwrap();
    let after = infer().await;
    let body_of = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body_of(&after), body_of(&before));
}
