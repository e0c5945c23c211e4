//! Encoded images to KServe's lanes: the answers of the jpeg lane, errors that name the image, limits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, RunRequest, RunTimings,
    Shape, Tensor, TensorSpec,
};
use quintet_proto::{
    ENCODED_IMAGES, elements,
    inference::{
        InferTensorContents, ModelConfig, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelParameter,
    },
};
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    image_input::Decoder,
    service::Service,
    transport::{http1, images, io_threads::IoThreads, listener::Listener},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Gate, Server, input, serve};

const PHOTO: &[u8] = include_bytes!("../../../photos/coffee-224.jpg");
const OTHER: &[u8] = include_bytes!("../../../photos/rocket.jpg");
const MAX_BATCH_SIZE: usize = 4;
/// Elements of an embedding.
const WIDTH: usize = 8;
const MAX_PIXELS: u64 = 300_000;

/// Each of its outputs is some elements of the image.
struct Sampled {
    outputs: usize,
}

impl Instance for Sampled {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let images = request.inputs.iter().flatten().next().unwrap();
        let (data_type, rows) = (images.data_type(), images.shape().dims()[0]);
        let sampled = images.data().chunks(images.data().len() / rows).flat_map(|row| {
            let value = |at: usize| match data_type {
                DataType::Fp32 => f32::from_le_bytes(row[4 * at..][..4].try_into().unwrap()),
                _ => f32::from(row[at]),
            };
            let elements = row.len() / data_type.size().unwrap();
            (0..WIDTH).flat_map(|index| value(elements / WIDTH * index).to_le_bytes()).collect::<Vec<_>>()
        });
        let data = Bytes::from(sampled.collect::<Vec<_>>());
        let tensor = Tensor::new(DataType::Fp32, Shape::new([rows, WIDTH]), data).map_err(InferError::internal)?;
        Ok(vec![Some(tensor); self.outputs])
    }

    fn placement(&self) -> Placement {
        Placement { provider: "CPUExecutionProvider".into(), ..Placement::default() }
    }
}

fn put(service: &Service, name: &str, input: TensorSpec, outputs: &[&str], parameters: &[(&str, &str)]) {
    let output = |name: &&str| TensorSpec::new(*name, DataType::Fp32, [Some(WIDTH)]);
    let policy = BatchPolicy { max_batch_size: MAX_BATCH_SIZE, dynamic: true, ..BatchPolicy::default() };
    let spec = ModelSpec::new(name, 1, vec![input], outputs.iter().map(output).collect(), policy).unwrap();
    let pool = service.catalog().pool().clone();
    let model =
        Model::start(spec, vec![Box::new(Sampled { outputs: outputs.len() })], vec![], pool, Duration::ZERO).unwrap();
    let parameter =
        |(name, value): &(&str, &str)| ((*name).to_owned(), ModelParameter { string_value: (*value).to_owned() });
    let parameters = parameters.iter().map(parameter).collect();
    service.catalog().put(model, ModelConfig { name: name.into(), parameters, ..Default::default() });
}

/// A server, and the port of its KServe over HTTP.
struct Lanes {
    server: Server,
    http: u16,
}

/// Serves `resnet`, as `quintet-models` writes them; `export`, which only has the shape of one; `detector`, whose
/// parameters say how images are prepared; `rows`, which has nothing to do with images.
async fn start(decoder: Decoder) -> Lanes {
    let max_input = InputLimit { bytes: 8 << 20, flag: "--max-input-bytes" };
    let limits = Limits { max_input, max_image_pixels: MAX_PIXELS, max_images: 3 };
    let catalog = Catalog::new(ServiceName::Onnx, BufferPool::new(64 << 20), limits).with_decoder(decoder);
    let service = Arc::new(Service::new(catalog));
    let tensor = |name: &str, data_type, dims: &[usize]| {
        TensorSpec::new(name, data_type, dims.iter().copied().map(Some).collect::<Vec<_>>())
    };
    let resnet = tensor("image", DataType::Fp32, &[3, 224, 224]);
    put(&service, "resnet", resnet, &["logits", "embedding"], &[]);
    put(&service, "export", tensor("input", DataType::Fp32, &[3, 224, 224]), &["output"], &[]);
    let parameters = [("image_preprocess", "letterbox"), ("image_color_order", "BGR")];
    put(&service, "detector", tensor("images", DataType::Uint8, &[64, 64, 3]), &["boxes"], &parameters);
    put(&service, "rows", tensor("x", DataType::Fp32, &[4]), &["y"], &[]);
    let server = serve(service, Gate::default()).await;
    let http = server.http().await;
    Lanes { server, http }
}

/// The status and the body of the answer to a request.
async fn post(port: u16, path: &str, headers: &str, body: &[u8]) -> (u16, Value) {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn base64(image: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(image)
}

impl Lanes {
    /// Images in base64 as JSON.
    async fn json(&self, model: &str, input: &str, shape: &[usize], images: &[&[u8]]) -> (u16, Value) {
        let data: Vec<_> = images.iter().map(|image| base64(image)).collect();
        let input = json!({ "name": input, "datatype": "BYTES", "shape": shape, "data": data });
        let body = json!({ "inputs": [input] }).to_string();
        post(self.http, &format!("/v2/models/{model}/infer"), "", body.as_bytes()).await
    }

    /// Images as a binary tensor over HTTP.
    async fn binary(&self, model: &str, input: &str, shape: &[usize], data: &[u8]) -> (u16, Value) {
        let parameters = json!({ "binary_data_size": data.len() });
        let input = json!({ "name": input, "datatype": "BYTES", "shape": shape, "parameters": parameters });
        let json = json!({ "inputs": [input] }).to_string();
        let headers = format!("inference-header-content-length: {}\r\n", json.len());
        let body = [json.as_bytes(), data].concat();
        post(self.http, &format!("/v2/models/{model}/infer"), &headers, &body).await
    }

    async fn grpc(&self, request: ModelInferRequest) -> Result<ModelInferResponse, tonic::Status> {
        self.server.client().await.model_infer(request).await.map(tonic::Response::into_inner)
    }

    /// Serves the jpeg lane with a model, and returns its port.
    async fn jpeg_lane(&self, model: &str) -> u16 {
        let listener = Listener::bind("jpeg", ([127, 0, 0, 1], 0).into(), 64).await.unwrap();
        let (port, service) = (listener.port().unwrap(), Arc::clone(&self.server.service));
        let router = images::router(Arc::clone(&service), model);
        tokio::spawn(http1::serve::serve(
            listener,
            router,
            service,
            IoThreads::start().unwrap(),
            self.server.stop.clone(),
        ));
        port
    }
}

fn request(model: &str, name: &str, shape: &[i64], contents: Option<InferTensorContents>) -> ModelInferRequest {
    let mut image = input("BYTES", shape, contents);
    image.name = name.into();
    ModelInferRequest { model_name: model.into(), inputs: vec![image], ..Default::default() }
}

/// Images as a raw tensor over gRPC.
fn raw(model: &str, name: &str, shape: &[i64], images: &[&[u8]]) -> ModelInferRequest {
    let raw_input_contents = vec![elements::encode(images)];
    ModelInferRequest { raw_input_contents, ..request(model, name, shape, None) }
}

fn typed(model: &str, name: &str, shape: &[i64], images: &[&[u8]]) -> ModelInferRequest {
    let bytes_contents = images.iter().map(|image| Bytes::copy_from_slice(image)).collect();
    request(model, name, shape, Some(InferTensorContents { bytes_contents, ..Default::default() }))
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The first output of an answer in JSON.
fn first_output((status, answer): (u16, Value)) -> Vec<f32> {
    assert_eq!(status, 200, "{answer}");
    numbers(&answer["outputs"][0]["data"])
}

fn first_tensor(answer: &ModelInferResponse) -> Vec<f32> {
    answer.raw_output_contents[0].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[tokio::test]
async fn a_photograph_has_the_answer_of_the_jpeg_lane_on_every_lane() {
    let lanes = start(Decoder::default()).await;
    let images = json!({ "images": [base64(PHOTO), base64(OTHER)] }).to_string();
    let (status, answer) = post(lanes.jpeg_lane("resnet").await, "/embed/base64", "", images.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    let expected = [numbers(&answer["embeddings"][0]), numbers(&answer["embeddings"][1])].concat();
    assert!(expected.iter().any(|value| value.abs() > 0.1), "an image has content: {expected:?}");

    let both = [PHOTO, OTHER];
    // Outputs are in the order of their names.
    assert_eq!(first_output(lanes.json("resnet", "image", &[2], &both).await), expected);
    assert_eq!(first_output(lanes.binary("resnet", "image", &[2, 1], &elements::encode(both)).await), expected);
    let text = elements::encode([format!("data:image/jpeg;base64,{}", base64(PHOTO)), base64(OTHER)]);
    assert_eq!(first_output(lanes.binary("resnet", "image", &[2], &text).await), expected);
    assert_eq!(first_tensor(&lanes.grpc(raw("resnet", "image", &[2], &both)).await.unwrap()), expected);
    assert_eq!(first_tensor(&lanes.grpc(typed("resnet", "image", &[2, 1], &both)).await.unwrap()), expected);
    let requests = futures_util::stream::iter([raw("resnet", "image", &[2], &both)]);
    let mut stream = lanes.server.client().await.model_stream_infer(requests).await.unwrap().into_inner();
    let streamed = stream.message().await.unwrap().unwrap();
    assert_eq!(streamed.error_message, "");
    assert_eq!(first_tensor(&streamed.infer_response.unwrap()), expected);
}

#[tokio::test]
async fn the_jpeg_lane_returns_the_only_output_whatever_its_name() {
    let lanes = start(Decoder::default()).await;
    let port = lanes.jpeg_lane("export").await;
    let (status, answer) = post(port, "/embed", "content-type: image/jpeg\r\n", PHOTO).await;
    assert_eq!(status, 200, "{answer}");
    let resnet = first_output(lanes.json("resnet", "image", &[1], &[PHOTO]).await);
    assert_eq!(numbers(&answer["embeddings"][0]), resnet, "it is prepared alike");
    let (status, answer) = post(port, "/classify?k=1", "content-type: image/jpeg\r\n", PHOTO).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["classifications"][0].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_bad_image_is_named_and_other_requests_are_answered() {
    let lanes = start(Decoder::default()).await;
    let images: [&[u8]; 3] = [PHOTO, b"\x89PNG\r\n\x1a\n", PHOTO];
    let requests = (0..6).map(|turn| {
        let images = if turn == 3 { &images[..] } else { &images[..1] };
        lanes.grpc(raw("resnet", "image", &[images.len() as i64], images))
    });
    let answers = join_all(requests).await;
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), turn != 3, "{answer:?}");
    }
    let error = answers[3].as_ref().unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().starts_with("image[1]: cannot decode PNG"), "{error}");
    let (status, answer) = lanes.json("resnet", "image", &[3], &images).await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"], error.message());
    let damaged = &PHOTO[..PHOTO.len() / 2];
    let (status, answer) = lanes.binary("resnet", "image", &[2], &elements::encode([PHOTO, damaged])).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().starts_with("image[1]: cannot decode JPEG"), "{answer}");
    assert_eq!(lanes.server.model("resnet").stats().failures.total(), 3);
}

#[tokio::test]
async fn images_have_the_limits_of_the_jpeg_lane() {
    let lanes = start(Decoder::default()).await;
    let large = image::RgbImage::from_pixel(1000, 301, image::Rgb([1, 2, 3]));
    let mut file = std::io::Cursor::new(Vec::new());
    large.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let large = file.into_inner();
    let answers = [
        lanes.json("resnet", "image", &[2], &[PHOTO, &large]).await,
        lanes.json("resnet", "image", &[4], &[PHOTO; 4]).await,
        lanes.json("resnet", "image", &[5], &[PHOTO; 5]).await,
        lanes.json("resnet", "image", &[1, 2], &[PHOTO; 2]).await,
        lanes.json("resnet", "image", &[1, 3, 224, 224], &[]).await,
        lanes.binary("resnet", "image", &[0], &[]).await,
        lanes.binary("resnet", "image", &[2], &elements::encode([PHOTO])).await,
        lanes.binary("resnet", "image", &[1], &PHOTO[..5]).await,
    ];
    let text = |(status, answer): (u16, Value)| format!("{status} {}", answer["error"].as_str().unwrap());
    insta::assert_snapshot!(answers.map(text).join("\n"), @r"
    413 image[1]: 1000x301 pixels, over the limit of 300000 (--max-image-pixels)
    413 4 images in one request, over the limit of 3 (--max-images)
    400 [request id: <id_unknown>] inference request batch-size must be <= 4 for 'resnet'
    400 input 'image' of model 'resnet' takes encoded images as BYTES [N] or [N,1], not [1, 2]
    400 Unable to parse 'data': Shape does not match true shape of 'data' field (input 'image': 0 elements, expected 150528)
    400 [request id: <id_unknown>] inference request batch-size must be >= 1 for 'resnet'
    400 [request id: <id_unknown>] expected 2 string elements for inference input 'image' for model 'resnet', got 1
    400 incomplete string data for inference input 'image', expecting string of length 3774863615 but only 1 bytes available
    ");
    let error = lanes.grpc(raw("resnet", "image", &[2], &[PHOTO, &large])).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");

    let lanes = start(Decoder::new(1, 1)).await;
    let (status, answer) = lanes.json("resnet", "image", &[2], &[PHOTO; 2]).await;
    assert_eq!(status, 503);
    assert_eq!(answer["error"], "cannot decode 2 more images now: at most 1 may wait (--max-decode-queue)");
    assert_eq!(lanes.json("resnet", "image", &[1], &[PHOTO]).await.0, 200);
}

#[tokio::test]
async fn parameters_say_which_models_take_images_and_how() {
    let lanes = start(Decoder::default()).await;
    // Blue comes first. The image is higher than wide, so its right and left edges are grey.
    let high = image::RgbImage::from_pixel(10, 20, image::Rgb([200, 100, 50]));
    let mut file = std::io::Cursor::new(Vec::new());
    high.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let levels = first_output(lanes.json("detector", "images", &[1], &[file.get_ref()]).await);
    assert_eq!(levels, [114.0; WIDTH], "the first pixels of rows are grey");
    let wide = image::RgbImage::from_pixel(20, 20, image::Rgb([200, 100, 50]));
    let mut file = std::io::Cursor::new(Vec::new());
    wide.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let levels = first_output(lanes.json("detector", "images", &[1], &[file.get_ref()]).await);
    assert_eq!(levels, [50.0; WIDTH], "blue is the first channel");

    let refusal = async |model, input| lanes.json(model, input, &[1], &[PHOTO]).await.1["error"].clone();
    assert_eq!(
        refusal("export", "input").await,
        "[request id: <id_unknown>] inference input 'input' data-type is 'BYTES', but model 'export' expects 'FP32'; to \
         send encoded images, set parameters[\"image_preprocess\"] in its config.pbtxt to torchvision, crop, stretch or \
         letterbox"
    );
    assert_eq!(
        refusal("rows", "x").await,
        "[request id: <id_unknown>] inference input 'x' data-type is 'BYTES', but model 'rows' expects 'FP32'"
    );
}

#[tokio::test]
async fn metadata_shows_the_form_in_a_header_and_tritons_body() {
    let lanes = start(Decoder::default()).await;
    let answer = crate::support::over_http(lanes.http, "GET", "/v2/models/resnet", "").await;
    let described = "image BYTES [-1]: RGB, shorter side resized to 256, centre 224x224, scaled to 0..1, ImageNet mean \
                     and deviation";
    assert!(answer.contains(&format!("\r\n{ENCODED_IMAGES}: {described}\r\n")), "{answer}");
    assert!(answer.contains(r#"{"name":"image","datatype":"FP32","shape":[-1,3,224,224]}"#), "{answer}");
    let mut client = lanes.server.client().await;
    let mut metadata = async |model: &str| {
        let request = ModelMetadataRequest { name: model.into(), ..Default::default() };
        let answer = client.model_metadata(request).await.unwrap();
        answer.metadata().get(ENCODED_IMAGES).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(metadata("resnet").await.as_deref(), Some(described));
    assert_eq!(metadata("detector").await.as_deref(), Some("images BYTES [-1]: BGR, 64x64 with grey around the image"));
    assert_eq!([metadata("export").await, metadata("rows").await], [None, None]);
}
