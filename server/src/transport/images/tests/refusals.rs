//! Bad images, limits, bodies of an unknown form, and models that do not take images.

use std::sync::atomic::Ordering::SeqCst;

use axum::extract::Request;
use http::StatusCode;
use image::{ImageFormat, Rgb, RgbImage};
use quintet_engine::DataType;
use quintet_proto::inference::ModelConfig;
use serde_json::json;

use super::support::{MAX_IMAGES, PIXELS, RED, Suite, TENSOR, base64, encode, png, start};
use crate::{image_input::Decoder, observe::metrics::Format};

#[tokio::test]
async fn a_bad_image_is_named_and_the_model_does_not_run() {
    let suite = Suite::new(TENSOR);
    let good = base64(&png(RED));
    let jpeg = encode(&RgbImage::from_pixel(20, 20, Rgb(RED)), ImageFormat::Jpeg);
    for bad in ["!".into(), String::new(), base64(b"no image"), base64(&jpeg[..30]), base64(&png(RED)[..40])] {
        // The first bad image is reported, in whatever order the threads run.
        let images = [good.clone(), good.clone(), bad, good.clone(), "?".into()];
        let (status, body) = suite.post_json("/embed/base64", &images).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body["error"].as_str().unwrap().starts_with("images[2]: "), "{body}");
    }
    let (status, body) = suite.post_files(&[("a.png", png(RED)), ("b.png", b"no image".to_vec())]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body["error"].as_str().unwrap().starts_with("files[1] \"b.png\": "), "{body}");
    let (status, body) = suite.post("/embed", "image/jpeg", "no image").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body["error"].as_str().unwrap().starts_with("the body: "), "{body}");

    assert_eq!(suite.counters.runs.load(SeqCst), 0);
    let (status, _) = suite.post_json("/embed/base64", &[good]).await;
    assert_eq!(status, StatusCode::OK, "the lane still works");
    assert!(
        suite
            .service
            .catalog()
            .render_metrics(Format::Text)
            .contains("nv_inference_request_failure{model=\"scripted\",version=\"3\",reason=\"OTHER\"} 7")
    );
}

#[tokio::test]
async fn requests_over_a_limit_get_its_status_and_flag() {
    let suite = Suite::new(PIXELS);
    let wide = encode(&RgbImage::new(101, 100), ImageFormat::Png);
    let many = vec![base64(&png(RED)); MAX_IMAGES + 1];
    let files: Vec<_> = (0..=MAX_IMAGES).map(|_| ("a.png", png(RED))).collect();
    let answers = [
        suite.post_json("/embed/base64", &[base64(&png(RED)), base64(&wide)]).await,
        suite.post_json("/embed/base64", &many).await,
        suite.post_files(&files).await,
        suite.post("/embed", "image/png", vec![0; (1 << 20) + 1]).await,
    ];
    let text = answers.map(|(status, body)| format!("{status} {}", body["error"].as_str().unwrap())).join("\n");
    insta::assert_snapshot!(text, @r"
    413 Payload Too Large images[1]: 101x100 pixels, over the limit of 10000 (--max-image-pixels)
    413 Payload Too Large 25 images in one request, over the limit of 24 (--max-images)
    413 Payload Too Large 25 images in one request, over the limit of 24 (--max-images)
    413 Payload Too Large the body of 1048577 bytes exceeds the limit of 1048576 bytes (--max-input-bytes)
    ");
}

#[tokio::test]
async fn rejects_bodies_of_an_unknown_form() {
    let suite = Suite::new(PIXELS);
    let answers = [
        suite.post("/embed", "text/plain", "x").await,
        suite.post("/embed/base64", "application/json", "{}").await,
        suite.post("/embed/batch", "application/json", "{}").await,
        suite.post("/embed/batch", "multipart/form-data; boundary=X", "--X\r\n").await,
        suite
            .post(
                "/embed/batch",
                "multipart/form-data; boundary=X",
                "--X\r\nContent-Disposition: form-data; name=\"photo\"\r\n\r\n1\r\n--X--\r\n",
            )
            .await,
    ];
    let text = answers.map(|(status, body)| format!("{status} {}", body["error"].as_str().unwrap())).join("\n");
    insta::assert_snapshot!(text, @r#"
    400 Bad Request the body: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found 1 bytes that begin with "x"
    400 Bad Request failed to parse the request's JSON: missing field `images` at line 1 column 2
    400 Bad Request failed to parse the multipart body: Invalid `boundary` for `multipart/form-data` request
    400 Bad Request failed to parse the multipart body: incomplete multipart stream
    400 Bad Request no image in the request: it has no field 'files', only 'photo'
    "#);
}

#[tokio::test]
async fn a_full_decode_queue_refuses_images() {
    let (suite, model) = start(PIXELS, ["logits", "embedding"], Decoder::new(1, 2));
    suite.service.catalog().put(model, ModelConfig::default());
    let images = vec![base64(&png(RED)); 3];
    let body = json!({ "images": images }).to_string();
    let (status, headers, body) = suite.send(Request::post("/embed/base64"), body).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(body["error"], "cannot decode 3 more images now: at most 2 may wait (--max-decode-queue)");
    for _ in 0..3 {
        let (status, body) = suite.post_json("/embed/base64", &images[..2]).await;
        assert_eq!(status, StatusCode::OK, "the queue is free again: {body}");
    }
}

#[tokio::test]
async fn rejects_models_without_the_needed_input_or_output() {
    let refusal = async |input, outputs, path: &'static str| {
        let (suite, model) = start(input, outputs, Decoder::new(1, 8));
        suite.service.catalog().put(model, ModelConfig::default());
        let (status, body) = suite.post(path, "image/png", png(RED)).await;
        format!("{status} {}", body["error"].as_str().unwrap())
    };
    insta::assert_snapshot!(
        [
            refusal(PIXELS, ["scores", "features"], "/embed").await,
            refusal((DataType::Fp32, [3, 299, 299]), ["logits", "embedding"], "/embed").await,
        ]
        .join("\n"),
        @r#"
        501 Not Implemented model 'scripted' has no FP32 output 'embedding'; its outputs are 'scores' FP32 [-1, 4], 'features' FP32 [-1, 3]: name one in parameters["embedding_output"] of its config.pbtxt, or ask for all at /infer
        501 Not Implemented model 'scripted' does not take images: its inputs are 'image' FP32 [-1, 3, 299, 299], but it needs one required input, FP32 [3,224,224] or UINT8 [224,224,3], or parameters["image_preprocess"] in its config.pbtxt
        "#
    );
}
