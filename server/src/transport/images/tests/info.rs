//! Health, the description of the model, and response headers.

use axum::extract::Request;
use http::StatusCode;
use quintet_engine::VersionState;
use quintet_proto::inference::ModelConfig;
use serde_json::json;

use super::support::{RED, Suite, TENSOR, png, start};
use crate::image_input::Decoder;

#[tokio::test]
async fn health_follows_the_model() {
    let (suite, model) = start(TENSOR, ["logits", "embedding"], Decoder::new(1, 8));
    let not_ready = async || {
        let (status, body) = suite.get("/health").await;
        (status, body["status"].clone(), body["error"].as_str().unwrap_or_default().to_owned())
    };
    let unavailable = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, json!("not ready"), why.to_owned());
    assert_eq!(not_ready().await, unavailable("model 'scripted' is not loaded yet"));
    assert_eq!(suite.post("/embed", "image/png", png(RED)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    suite.service.catalog().registry().set("scripted", 3, VersionState::Loading);
    assert_eq!(not_ready().await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(suite.get("/healthz").await, (StatusCode::OK, json!("ok")));

    suite.service.catalog().put(model, ModelConfig::default());
    assert_eq!(suite.get("/health").await, (StatusCode::OK, json!({"status": "ok", "model": "scripted"})));
    suite.service.begin_drain();
    assert_eq!(not_ready().await, unavailable("not ready: the server is shutting down"));
    assert_eq!(suite.post("/embed", "image/png", png(RED)).await.0, StatusCode::OK, "still served");
}

#[tokio::test]
async fn the_lane_describes_itself() {
    let suite = Suite::new(TENSOR);
    let (_, mut info) = suite.get("/model-info").await;
    let server = info.as_object_mut().unwrap().remove("server").unwrap();
    assert_eq!(server, format!("quintet {}", crate::VERSION));
    insta::assert_json_snapshot!(info, @r#"
    {
      "effective_provider": "CPUExecutionProvider",
      "embedding_output": "embedding",
      "inputs": [
        {
          "datatype": "FP32",
          "name": "image",
          "shape": [
            -1,
            3,
            224,
            224
          ]
        }
      ],
      "logits_output": "logits",
      "max_batch_size": 4,
      "model": "scripted",
      "nodes": {
        "CPUExecutionProvider": 7
      },
      "outputs": [
        {
          "datatype": "FP32",
          "name": "logits",
          "shape": [
            -1,
            4
          ]
        },
        {
          "datatype": "FP32",
          "name": "embedding",
          "shape": [
            -1,
            3
          ]
        }
      ],
      "preprocess": "RGB, shorter side resized to 256, centre 224x224, scaled to 0..1, ImageNet mean and deviation",
      "provider_reason": "no GPU",
      "version": "3"
    }
    "#);
    let (_, devices) = suite.get("/gpu-info").await;
    assert_eq!(
        devices,
        json!({"devices": [], "effective_provider": "CPUExecutionProvider", "provider_reason": "no GPU"})
    );
    assert_eq!(suite.get("/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(suite.get("/embed").await.0, StatusCode::METHOD_NOT_ALLOWED);

    let request = Request::post("/embed").header("content-type", "image/png");
    let (_, headers, _) = suite.send(request, png(RED)).await;
    assert_eq!(headers["quintet-effective-provider"], "CPUExecutionProvider");
    assert_eq!(headers["quintet-provider-reason"], "no GPU");
    let timing = headers["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("receive;dur=") && timing.contains(", parse;dur="), "{timing}");
    let (_, metrics) = suite.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("nv_inference_count{model=\"scripted\",version=\"3\"} 1"), "{metrics}");
}
