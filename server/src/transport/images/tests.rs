//! The lane from request to answer, with real images and a model that tells which image it saw.

use std::{
    io::Cursor,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, QueuePolicy, RunRequest,
    RunTimings, Shape, Tensor, TensorSpec, VersionState,
};
use quintet_proto::inference::ModelConfig;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Decoder, router};
use crate::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    service::Service,
};

const MAX_BATCH_SIZE: usize = 4;
const MAX_IMAGES: usize = 24;
const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

/// Its embedding is the colour of the image's first pixel; its logits are that colour over 64, and a 0.
#[derive(Clone, Default)]
struct FirstPixel {
    runs: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

impl Instance for FirstPixel {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let images = request.inputs.iter().flatten().next().unwrap();
        assert_eq!(request.inputs.iter().flatten().count(), 1, "what is optional is left out");
        let rows = images.shape().dims()[0];
        self.runs.fetch_add(1, SeqCst);
        self.largest.fetch_max(rows, SeqCst);
        let rows_of = images.data().chunks(images.data().len() / rows);
        let colours: Vec<[f32; 3]> = rows_of
            .map(|image| match images.data_type() {
                DataType::Uint8 => std::array::from_fn(|channel| f32::from(image[channel])),
                _ => {
                    let pixels: &[f32] = bytemuck::cast_slice(image);
                    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
                    std::array::from_fn(|c| (pixels[c * 224 * 224] * deviation[c] + mean[c]) * 255.0)
                }
            })
            .collect();
        let tensor = |width: usize, values: Vec<f32>| {
            let data = Bytes::from(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
            Tensor::new(DataType::Fp32, Shape::new([rows, width]), data).map_err(InferError::internal).map(Some)
        };
        let logits = colours.iter().flat_map(|[r, g, b]| [r / 64.0, g / 64.0, b / 64.0, 0.0]).collect();
        Ok(vec![tensor(4, logits)?, tensor(3, colours.concat())?])
    }

    fn placement(&self) -> Placement {
        Placement {
            provider: "CPUExecutionProvider".into(),
            nodes: vec![("CPUExecutionProvider".into(), 7)],
            precision: None,
            reason: Some("no GPU".into()),
        }
    }
}

/// A lane, and its model's counters.
struct Suite {
    routes: Router,
    service: Arc<Service>,
    counters: FirstPixel,
}

const PIXELS: (DataType, [usize; 3]) = (DataType::Uint8, [224, 224, 3]);
const TENSOR: (DataType, [usize; 3]) = (DataType::Fp32, [3, 224, 224]);

/// A service without its model, and the model.
fn start(input: (DataType, [usize; 3]), outputs: [&str; 2], decoder: Decoder) -> (Suite, Model) {
    start_beside(Vec::new(), input, outputs, decoder)
}

/// [`start`], with these inputs in front of the image.
fn start_beside(
    mut inputs: Vec<TensorSpec>,
    (data_type, dims): (DataType, [usize; 3]),
    outputs: [&str; 2],
    decoder: Decoder,
) -> (Suite, Model) {
    let counters = FirstPixel::default();
    let pool = BufferPool::new(64 << 20);
    let [mut logits, embedding] =
        [(outputs[0], 4), (outputs[1], 3)].map(|(name, width)| TensorSpec::new(name, DataType::Fp32, [Some(width)]));
    logits.labels = Some(Arc::new(["red", "green", "blue"].map(str::to_owned)));
    inputs.push(TensorSpec::new("image", data_type, dims.map(Some)));
    let policy = BatchPolicy {
        max_batch_size: MAX_BATCH_SIZE,
        dynamic: true,
        queue: QueuePolicy { max_queue_size: 64, ..QueuePolicy::default() },
        ..BatchPolicy::default()
    };
    let spec = ModelSpec::new("scripted", 3, inputs, vec![logits, embedding], policy).unwrap();
    let model = Model::start(spec, vec![Box::new(counters.clone())], vec![], pool.clone(), Duration::ZERO).unwrap();
    let limits = Limits {
        max_input: InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" },
        max_image_pixels: 10_000,
        max_images: MAX_IMAGES,
    };
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Jpeg, pool, limits)));
    (Suite { routes: router(Arc::clone(&service), "scripted", decoder), service, counters }, model)
}

impl Suite {
    fn new(input: (DataType, [usize; 3])) -> Self {
        let (suite, model) = start(input, ["logits", "embedding"], Decoder::new(3, 64));
        suite.service.catalog().put(model, ModelConfig::default());
        suite
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> (StatusCode, HeaderMap, Value) {
        let request: Request = request.body(body.into()).unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
        (head.status, head.headers, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Request::get(path), Body::empty()).await;
        (status, body)
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Request::post(path).header("content-type", content_type), body).await;
        (status, body)
    }

    async fn post_json(&self, path: &str, images: &[String]) -> (StatusCode, Value) {
        self.post(path, "application/json", json!({ "images": images }).to_string()).await
    }

    async fn post_files(&self, files: &[(&str, Vec<u8>)]) -> (StatusCode, Value) {
        let mut body = Vec::new();
        for (name, data) in files {
            let head = "--X\r\nContent-Disposition: form-data; name=\"files\"; filename=";
            body.extend(format!("{head}\"{name}\"\r\nContent-Type: image/png\r\n\r\n").bytes());
            body.extend_from_slice(data);
            body.extend(b"\r\n");
        }
        body.extend(b"--X--\r\n");
        self.post("/embed/batch", "multipart/form-data; boundary=X", body).await
    }
}

fn encode(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn png(colour: [u8; 3]) -> Vec<u8> {
    encode(&RgbImage::from_pixel(20, 20, Rgb(colour)), ImageFormat::Png)
}

fn base64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

fn colours(body: &Value) -> Vec<[u8; 3]> {
    let rows: Vec<[f32; 3]> = serde_json::from_value(body["embeddings"].clone()).unwrap();
    rows.into_iter().map(|row| row.map(|value| value.round() as u8)).collect()
}

#[tokio::test]
async fn every_way_to_send_images() {
    for input in [PIXELS, TENSOR] {
        let suite = Suite::new(input);
        let uri = format!("data:image/png;base64,{}", base64(&png(BLUE)));
        let answers = [
            suite.post_json("/embed/base64", &[base64(&png(RED)), uri.clone()]).await,
            suite.post_json("/embed", &[base64(&png(RED)), uri]).await,
            suite.post_files(&[("a.png", png(RED)), ("b.png", png(BLUE))]).await,
        ];
        for (status, body) in answers {
            assert_eq!((status, colours(&body)), (StatusCode::OK, vec![RED, BLUE]), "{body}");
            assert_eq!(body["count"], 2);
            let info = json!({"model": "scripted", "version": "3", "effective_provider": "CPUExecutionProvider"});
            assert_eq!(body["model_info"], info);
        }
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let image = encode(&RgbImage::from_pixel(20, 20, Rgb(RED)), format);
            let (status, body) = suite.post("/embed", format.to_mime_type(), image).await;
            assert_eq!((status, colours(&body)), (StatusCode::OK, vec![RED]), "{body}");
        }
        let jpeg = encode(&RgbImage::from_pixel(20, 20, Rgb([200; 3])), ImageFormat::Jpeg);
        let (status, body) = suite.post("/embed", "image/jpeg", jpeg).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(colours(&body)[0].iter().all(|value| value.abs_diff(200) <= 3), "{body}");
    }
}

#[tokio::test]
async fn what_is_optional_besides_the_image_is_left_out() {
    let blur = |optional| vec![TensorSpec { optional, ..TensorSpec::new("blur", DataType::Fp32, [Some(1)]) }];
    for (optional, status) in [(true, StatusCode::OK), (false, StatusCode::NOT_IMPLEMENTED)] {
        let (suite, model) = start_beside(blur(optional), PIXELS, ["logits", "embedding"], Decoder::new(1, 8));
        suite.service.catalog().put(model, ModelConfig::default());
        let (found, body) = suite.post("/embed", "image/png", png(RED)).await;
        assert_eq!(found, status, "{body}");
        assert!(!optional || colours(&body) == [RED], "{body}");
    }
}

#[tokio::test]
async fn classes_are_ranked_with_their_labels() {
    let suite = Suite::new(PIXELS);
    let (status, body) = suite.post("/classify?k=2", "image/png", png([0, 64, 128])).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let sum: f64 = [0.0, 1.0, 2.0, 0.0f64].map(f64::exp).iter().sum();
    let top = &body["classifications"][0];
    assert_eq!((&top[0]["index"], &top[0]["label"], &top[0]["logit"]), (&json!(2), &json!("blue"), &json!(2.0)));
    assert!((top[0]["score"].as_f64().unwrap() - 2f64.exp() / sum).abs() < 1e-12, "{body}");
    assert_eq!((top.as_array().unwrap().len(), &top[1]["label"]), (2, &json!("green")));

    let (_, body) = suite.post_json("/classify?k=99", &[base64(&png(RED)), base64(&png(BLUE))]).await;
    let classes = body["classifications"].as_array().unwrap();
    assert_eq!((classes.len(), classes[1].as_array().unwrap().len()), (2, 4), "no more than there are");
    assert_eq!((&classes[0][0]["label"], &classes[1][0]["label"]), (&json!("red"), &json!("blue")));
    let unnamed = classes[0].as_array().unwrap().iter().find(|class| class["index"] == 3).unwrap();
    assert!(unnamed.get("label").is_none(), "{unnamed}");

    let (status, body) = suite.post("/classify?k=0", "image/png", png(RED)).await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::BAD_REQUEST, &json!("k must be a whole number from 1 on, got '0'"))
    );
}

#[tokio::test]
async fn a_bad_image_is_named_and_nothing_is_run() {
    let suite = Suite::new(TENSOR);
    let good = base64(&png(RED));
    let jpeg = encode(&RgbImage::from_pixel(20, 20, Rgb(RED)), ImageFormat::Jpeg);
    for bad in ["!".into(), String::new(), base64(b"no image"), base64(&jpeg[..30]), base64(&png(RED)[..40])] {
        // The second bad one is not the one to be told, however the threads run.
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
    assert_eq!(status, StatusCode::OK, "the lane goes on");
    assert!(
        suite
            .service
            .catalog()
            .render_metrics()
            .contains("nv_inference_request_failure{model=\"scripted\",version=\"3\",reason=\"OTHER\"} 7")
    );
}

#[tokio::test]
async fn limits_have_their_status_and_their_flag() {
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
async fn bodies_of_no_known_form_are_refused() {
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
                "--X\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n1\r\n--X--\r\n",
            )
            .await,
    ];
    let text = answers.map(|(status, body)| format!("{status} {}", body["error"].as_str().unwrap())).join("\n");
    insta::assert_snapshot!(text, @r"
    400 Bad Request cannot tell from the content type 'text/plain' what the body is: send application/json, multipart/form-data, image/jpeg, image/png or image/webp
    400 Bad Request failed to parse the request's JSON: missing field `images` at line 1 column 2
    400 Bad Request failed to parse the multipart body: Invalid `boundary` for `multipart/form-data` request
    400 Bad Request failed to parse the multipart body: incomplete multipart stream
    400 Bad Request no image in the request: it has no field 'files'; there is a field 'file'
    ");
}

#[tokio::test]
async fn a_full_decode_queue_refuses() {
    let (suite, model) = start(PIXELS, ["logits", "embedding"], Decoder::new(1, 2));
    suite.service.catalog().put(model, ModelConfig::default());
    let images = vec![base64(&png(RED)); 3];
    let body = json!({ "images": images }).to_string();
    let (status, headers, body) = suite.send(Request::post("/embed/base64"), body).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(body["error"], "no room to decode 3 more images: at most 2 wait (--max-decode-queue)");
    for _ in 0..3 {
        let (status, body) = suite.post_json("/embed/base64", &images[..2]).await;
        assert_eq!(status, StatusCode::OK, "places come back: {body}");
    }
}

#[tokio::test]
async fn models_that_do_not_fit_say_what_they_have() {
    let refusal = async |input, outputs, path: &'static str| {
        let (suite, model) = start(input, outputs, Decoder::new(1, 8));
        suite.service.catalog().put(model, ModelConfig::default());
        let (status, body) = suite.post(path, "image/png", png(RED)).await;
        format!("{status} {}", body["error"].as_str().unwrap())
    };
    insta::assert_snapshot!(
        [
            refusal(PIXELS, ["logits", "features"], "/embed").await,
            refusal(PIXELS, ["scores", "embedding"], "/classify").await,
            refusal((DataType::Fp32, [3, 299, 299]), ["logits", "embedding"], "/embed").await,
        ]
        .join("\n"),
        @r"
        501 Not Implemented model 'scripted' has no FP32 output 'embedding'; its outputs are 'logits' FP32, 'features' FP32
        501 Not Implemented model 'scripted' has no FP32 output 'logits'; its outputs are 'scores' FP32, 'embedding' FP32
        501 Not Implemented model 'scripted' does not take images: it has 'image' FP32 [-1, 3, 299, 299], needed is one input FP32 [3,224,224] or UINT8 [224,224,3]
        "
    );
}

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
    assert_eq!(not_ready().await, unavailable("models are loading or the server is shutting down"));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_image_gets_its_own_embedding(wanted in prop::collection::vec(any::<[u8; 3]>(), 1..=MAX_IMAGES), files: bool) {
        static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
        static SUITE: LazyLock<Suite> = LazyLock::new(|| Suite::new(PIXELS));
        let runs = SUITE.counters.runs.load(SeqCst);
        let images: Vec<_> = wanted.iter().map(|colour| png(*colour)).collect();
        let (status, body) = RUNTIME.block_on(async {
            if files {
                SUITE.post_files(&images.into_iter().map(|image| ("a", image)).collect::<Vec<_>>()).await
            } else {
                SUITE.post_json("/embed/base64", &images.iter().map(|image| base64(image)).collect::<Vec<_>>()).await
            }
        });
        prop_assert_eq!(status, StatusCode::OK, "{}", body);
        prop_assert_eq!(colours(&body), wanted.clone());
        prop_assert!(SUITE.counters.largest.load(SeqCst) <= MAX_BATCH_SIZE);
        prop_assert!(SUITE.counters.runs.load(SeqCst) - runs >= wanted.len().div_ceil(MAX_BATCH_SIZE));
    }
}
