//! All outputs as KServe's tensors: forms of bodies, outputs, binary data, other inputs, one run.

use axum::extract::Request;
use http::StatusCode;
use quintet_engine::{DataType, TensorSpec};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    inference::{ModelConfig, ModelParameter},
};
use serde_json::{Value, json};

use super::support::{BLUE, MAX_BATCH_SIZE, PIXELS, RED, Suite, TENSOR, base64, png, start, start_beside};
use crate::image_input::Decoder;

fn tensor(name: &str, shape: &[usize], data: &[f32]) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": data})
}

#[tokio::test]
async fn images_in_every_form_get_all_outputs_or_those_that_are_named() {
    let suite = Suite::new(PIXELS);
    let embedding = tensor("embedding", &[1, 3], &[255.0, 0.0, 0.0]);
    let logits = tensor("logits", &[1, 4], &[255.0 / 64.0, 0.0, 0.0, 0.0]);
    let all = json!({"model_name": "scripted", "model_version": "3", "outputs": [embedding, logits]});
    let text = base64(&png(RED));
    for (content_type, body) in [
        ("image/png", png(RED)),
        ("application/x-www-form-urlencoded", png(RED)),
        ("application/json", json!({"images": [text]}).to_string().into()),
        ("text/plain", format!("data:image/png;base64,{text}").into()),
    ] {
        let answer = suite.post("/infer", content_type, body).await;
        assert_eq!(answer, (StatusCode::OK, all.clone()), "{content_type}");
    }
    let (_, one) = suite.post("/infer?outputs=%65mbedding", "image/png", png(RED)).await;
    assert_eq!(one["outputs"], json!([embedding]));
    let (status, refused) = suite.post("/infer?outputs=boxes", "image/png", png(RED)).await;
    assert!(status == StatusCode::BAD_REQUEST && refused["error"].as_str().unwrap().contains("boxes"), "{refused}");
    let (_, two) = suite.post_json("/infer?outputs=embedding", &[base64(&png(RED)), base64(&png(BLUE))]).await;
    assert_eq!(two["outputs"], json!([tensor("embedding", &[2, 3], &[255.0, 0.0, 0.0, 0.0, 0.0, 255.0])]));
}

#[tokio::test]
async fn tensors_are_binary_if_asked_and_the_answer_has_the_headers_of_the_lane() {
    let suite = Suite::new(TENSOR);
    let path = "/infer?outputs=embedding&binary_data_output=true";
    let (status, headers, _) = suite.send(Request::post(path), png(RED)).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (StatusCode::OK, &b"application/octet-stream"[..]));
    let json_length: usize = headers[INFERENCE_HEADER_CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    assert_eq!(headers["content-length"].to_str().unwrap().parse::<usize>().unwrap(), json_length + 3 * 4);
    assert_eq!(headers["quintet-effective-provider"], "CPUExecutionProvider");
    assert!(headers["server-timing"].to_str().unwrap().contains("parse;dur="), "{headers:?}");
    let (status, _) = suite.post("/infer?binary_data_output=yes", "image/png", png(RED)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_images_of_a_request_are_one_run() {
    let suite = Suite::new(PIXELS);
    let images = vec![base64(&png(RED)); MAX_BATCH_SIZE + 1];
    let (status, body) = suite.post_json("/infer", &images).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body["error"].as_str().unwrap().contains("batch-size must be <= 4"), "{body}");
    let (status, body) = suite.post_json("/infer?outputs=embedding", &images[1..]).await;
    assert_eq!((status, &body["outputs"][0]["shape"]), (StatusCode::OK, &json!([4, 3])));
}

/// A model that needs `gain` beside the image; the parameter says which of them is the image.
fn two_inputs() -> Suite {
    let gain = TensorSpec::new("gain", DataType::Fp32, [Some(1)]);
    let (suite, model) = start_beside(vec![gain], PIXELS, ["logits", "embedding"], Decoder::new(1, 8));
    let parameter = |(name, value): (&str, &str)| (name.to_owned(), ModelParameter { string_value: value.to_owned() });
    let parameters = [("image_preprocess", "torchvision"), ("image_input", "image")].map(parameter).into();
    suite.service.catalog().put(model, ModelConfig { parameters, ..ModelConfig::default() });
    suite
}

#[tokio::test]
async fn other_inputs_come_with_the_images() {
    let suite = two_inputs();
    let gain = |rows: usize| json!([tensor("gain", &[rows, 1], &vec![1.0; rows])]);
    let images = [base64(&png(RED)), base64(&png(BLUE))];
    let body = json!({"inputs": gain(2), "images": images}).to_string();
    for path in ["/infer", "/embed"] {
        let (status, answer) = suite.post(path, "application/json", body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    let (inputs, image) = (gain(1).to_string(), png(RED));
    let form = [
        "--X\r\nContent-Disposition: form-data; name=\"inputs\"\r\n\r\n".as_bytes(),
        inputs.as_bytes(),
        b"\r\n--X\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n",
        &image,
        b"\r\n--X--\r\n",
    ];
    let (status, answer) = suite.post("/embed", "multipart/form-data; boundary=X", form.concat()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let refusal = async |body: Value| {
        let (status, answer) = suite.post("/embed", "application/json", body.to_string()).await;
        format!("{status} {}", answer["error"].as_str().unwrap())
    };
    let images = |count: usize| vec![base64(&png(RED)); count];
    let refusals = [
        refusal(json!({"images": images(1)})).await,
        refusal(json!({"images": images(1), "inputs": 1})).await,
        refusal(json!({"images": images(2), "inputs": gain(1)})).await,
        refusal(json!({"images": images(1), "inputs": [tensor("blur", &[1, 1], &[1.0])]})).await,
        refusal(json!({"images": images(MAX_BATCH_SIZE + 1), "inputs": gain(MAX_BATCH_SIZE + 1)})).await,
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}

#[tokio::test]
async fn a_model_without_images_is_refused() {
    let (suite, model) = start((DataType::Fp32, [3, 299, 299]), ["logits", "embedding"], Decoder::new(1, 8));
    suite.service.catalog().put(model, ModelConfig::default());
    let (status, body) = suite.post("/infer", "image/png", png(RED)).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{body}");
    assert!(body["error"].as_str().unwrap().contains("parameters[\"image_preprocess\"]"), "{body}");
}
