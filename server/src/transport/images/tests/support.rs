//! A jpeg service with a scripted model, and images to send to it.

use std::{
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use image::{ImageFormat, Rgb, RgbImage};
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, QueuePolicy, RunRequest,
    RunTimings, Shape, Tensor, TensorSpec,
};
use quintet_proto::inference::ModelConfig;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    image_input::Decoder,
    service::Service,
    transport::images::router,
};

pub(super) const MAX_BATCH_SIZE: usize = 4;
pub(super) const MAX_IMAGES: usize = 24;
pub(super) const RED: [u8; 3] = [255, 0, 0];
pub(super) const BLUE: [u8; 3] = [0, 0, 255];

/// A model whose embedding is the colour of an image's first pixel. Its logits are that colour divided by 64, and 0.
#[derive(Clone, Default)]
pub(super) struct FirstPixel {
    pub(super) runs: Arc<AtomicUsize>,
    pub(super) largest: Arc<AtomicUsize>,
    /// Inputs of the last run that were not left out.
    pub(super) inputs: Arc<AtomicUsize>,
}

impl Instance for FirstPixel {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        self.inputs.store(request.inputs.iter().flatten().count(), SeqCst);
        // Other inputs are before the image.
        let images = request.inputs.iter().flatten().last().unwrap();
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
            reason: Some("no GPU".into()),
            ..Placement::default()
        }
    }
}

/// A jpeg service, and the counters of its model.
pub(super) struct Suite {
    routes: Router,
    pub(super) service: Arc<Service>,
    pub(super) counters: FirstPixel,
}

pub(super) const PIXELS: (DataType, [usize; 3]) = (DataType::Uint8, [224, 224, 3]);
pub(super) const TENSOR: (DataType, [usize; 3]) = (DataType::Fp32, [3, 224, 224]);

/// A service without a model, and the model to put into it.
pub(super) fn start(input: (DataType, [usize; 3]), outputs: [&str; 2], decoder: Decoder) -> (Suite, Model) {
    start_beside(Vec::new(), input, outputs, decoder)
}

/// As [`start`], with these inputs before the image.
pub(super) fn start_beside(
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
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Jpeg, pool, limits).with_decoder(decoder)));
    (Suite { routes: router(Arc::clone(&service), "scripted"), service, counters }, model)
}

impl Suite {
    pub(super) fn new(input: (DataType, [usize; 3])) -> Self {
        let (suite, model) = start(input, ["logits", "embedding"], Decoder::new(3, 64));
        suite.service.catalog().put(model, ModelConfig::default());
        suite
    }

    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Value) {
        let request: Request = request.body(body.into()).unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
        (head.status, head.headers, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Request::get(path), Body::empty()).await;
        (status, body)
    }

    pub(super) async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Request::post(path).header("content-type", content_type), body).await;
        (status, body)
    }

    pub(super) async fn post_json(&self, path: &str, images: &[String]) -> (StatusCode, Value) {
        self.post(path, "application/json", json!({ "images": images }).to_string()).await
    }

    pub(super) async fn post_files(&self, files: &[(&str, Vec<u8>)]) -> (StatusCode, Value) {
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

pub(super) fn encode(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

pub(super) fn png(colour: [u8; 3]) -> Vec<u8> {
    encode(&RgbImage::from_pixel(20, 20, Rgb(colour)), ImageFormat::Png)
}

pub(super) fn base64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

pub(super) fn colours(body: &Value) -> Vec<[u8; 3]> {
    let rows: Vec<[f32; 3]> = serde_json::from_value(body["embeddings"].clone()).unwrap();
    rows.into_iter().map(|row| row.map(|value| value.round() as u8)).collect()
}
