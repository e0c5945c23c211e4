//! A scripted suite on loopback: five lanes and three metrics pages.
//!
//! An image's embedding depends on the first element of its tensor, which [`preprocess`] computes from the encoded file. So
//! all lanes agree exactly when they receive the same photographs.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use quintet_bench::{
    client::{endpoint::Endpoint, target::Target},
    model::{
        encoding::IMAGE_BYTES,
        lane::{Lane, Peer},
    },
};
use quintet_proto::{
    EFFECTIVE_PROVIDER, INFERENCE_HEADER_CONTENT_LENGTH, PRECISION, SERVER_TIMING, elements,
    inference::{self as pb, grpc_inference_service_server::GrpcInferenceServiceServer},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod service;
mod transports;

/// The only model served.
pub const MODEL: &str = "scripted";
/// Width of an embedding.
const WIDTH: usize = 4;
/// Time in the model that the counters claim for each request, in µs.
pub const INFER_US: u64 = 2_500;

/// Time in the model that stage times claim, in µs; shorter than any response takes.
pub const STAGED_INFER_US: u64 = 3;

/// Times that a stock server's statistics claim for each request, in ns: queue, compute input, infer and output; shorter
/// than any response takes.
pub const STATISTICS_NS: [u64; 4] = [11_000, 13_000, 17_000, 19_000];

/// A GPU as the server's metrics page has it: throttled by its power limit.
pub const GPU: &str = "nv_gpu_utilization{gpu_uuid=\"GPU-1\"} 0.9\nquintet_gpu_sm_clock_mhz{gpu_uuid=\"GPU-1\"} 1410\n\
    quintet_gpu_throttle_reasons{gpu_uuid=\"GPU-1\"} 4\n";

/// Deviations from a plain suite.
#[derive(Clone, Default)]
pub struct Script {
    /// Every n-th request of a lane fails.
    pub fail: Option<(Lane, u64)>,
    /// Requests that the onnx service counts beyond the real ones, each time.
    pub ghosts: u64,
    /// A lane whose embeddings are off by this factor.
    pub skew: Option<(Lane, f32)>,
    /// A lane that answers this much later.
    pub slow: Option<(Lane, Duration)>,
    /// The precision that the servers state.
    pub precision: Option<&'static str>,
    /// Cancelled when this lane has received this number of requests.
    pub cancel: Option<(Lane, u64, CancellationToken)>,
    /// Sends no provider, like stock Triton.
    pub anonymous: bool,
    /// The metrics pages have a GPU.
    pub gpu: bool,
    /// Responses carry stage times.
    pub stage_times: bool,
    /// Behaves like stock Triton: counters only in the statistics extension, and a request is counted after its response; no
    /// provider, no stage times, no metrics page.
    pub stock: bool,
}

/// One lane of the running suite.
pub struct LaneState {
    lane: Lane,
    script: Script,
    requests: AtomicU64,
    counted: Arc<Counted>,
    /// TCP connections accepted.
    pub accepted: AtomicU64,
    /// Registered shared memory.
    pub regions: transports::Regions,
}

#[derive(Default)]
struct Counted {
    requests: AtomicU64,
    images: AtomicU64,
    /// Requests at the last call: a request is in the statistics from the second call on.
    last_seen: AtomicU64,
}

impl Counted {
    fn statistics(&self) -> pb::ModelStatistics {
        let requests = self.requests.load(Ordering::SeqCst);
        let count = self.last_seen.swap(requests, Ordering::SeqCst);
        let duration = |ns: u64| Some(pb::StatisticDuration { count, ns: count * ns });
        let [queue, input, infer, output] = STATISTICS_NS.map(duration);
        pb::ModelStatistics {
            name: MODEL.into(),
            version: "1".into(),
            inference_count: self.images.load(Ordering::SeqCst),
            execution_count: count,
            inference_stats: Some(pb::InferStatistics {
                success: duration(STATISTICS_NS.iter().sum::<u64>() + 5_000),
                queue,
                compute_input: input,
                compute_infer: infer,
                compute_output: output,
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// A running suite; it ends with the runtime.
pub struct Suite {
    pub lanes: HashMap<Lane, Arc<LaneState>>,
    addresses: HashMap<&'static str, SocketAddr>,
}

impl Suite {
    pub async fn start(script: Script) -> Self {
        let counted: HashMap<_, _> = ["jpeg", "onnx", "trt"].map(|service| (service, Arc::<Counted>::default())).into();
        let mut suite = Self { lanes: HashMap::new(), addresses: HashMap::new() };
        for lane in Lane::ALL {
            let state = Arc::new(LaneState {
                lane,
                script: script.clone(),
                requests: AtomicU64::new(0),
                counted: Arc::clone(&counted[lane.service()]),
                accepted: AtomicU64::new(0),
                regions: transports::Regions::default(),
            });
            let address = match lane {
                Lane::ONNX_GRPC | Lane::TRT_GRPC => serve_grpc(Arc::clone(&state)).await,
                Lane::JPEG => serve_http(jpeg_routes(Arc::clone(&state)), Arc::clone(&state)).await,
                _ => serve_http(kserve_routes(Arc::clone(&state)), Arc::clone(&state)).await,
            };
            suite.addresses.insert(lane.kind.name(), address);
            suite.lanes.insert(lane, state);
        }
        for (metrics, lane) in [("onnx-metrics", Lane::ONNX_HTTP), ("trt-metrics", Lane::TRT_HTTP)] {
            let state = Arc::clone(&suite.lanes[&lane]);
            // Connections to the metrics page do not count as the lane's.
            let own = Arc::new(LaneState {
                lane,
                script: Script { stock: script.stock, gpu: script.gpu, ..Script::default() },
                requests: AtomicU64::new(0),
                counted: Arc::clone(&state.counted),
                accepted: AtomicU64::new(0),
                regions: transports::Regions::default(),
            });
            suite.addresses.insert(metrics, serve_http(metrics_routes(Arc::clone(&own)), own).await);
        }
        suite
    }

    /// The lanes as targets; with `peer`, as those of another server.
    pub fn targets(&self, peer: Option<Peer>) -> Vec<Target> {
        let target = |lane: Lane| Target {
            lane: Lane { peer, ..lane },
            endpoint: self.address(lane.kind.name()),
            metrics: match lane.service() {
                "jpeg" => self.address("jpeg"),
                service => self.address(&format!("{service}-metrics")),
            },
            model: MODEL.into(),
        };
        Lane::ALL.into_iter().map(target).collect()
    }

    /// Address of a lane, or of `onnx-metrics` or `trt-metrics`.
    pub fn address(&self, name: &str) -> Endpoint {
        self.addresses[name].to_string().parse().unwrap()
    }

    /// The flags that point the program at this suite.
    pub fn flags(&self) -> Vec<String> {
        let flags = self.addresses.iter().map(|(name, address)| format!("--{name}-url=http://{address}"));
        flags.chain([format!("--model={MODEL}")]).collect()
    }
}

/// The preprocessing of the tests: all elements are one number, computed from the file's bytes.
pub fn preprocess(encoded: &[u8], out: &mut [f32]) -> Result<(), Infallible> {
    out.fill(brightness(encoded));
    Ok(())
}

fn brightness(encoded: &[u8]) -> f32 {
    encoded.iter().map(|&byte| u64::from(byte)).sum::<u64>() as f32 / encoded.len() as f32
}

impl LaneState {
    /// Requests received so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answers the images of one request, or fails by the script.
    fn infer(&self, firsts: &[f32]) -> Result<Vec<Vec<f32>>, String> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((lane, at, cancel)) = &self.script.cancel
            && *lane == self.lane
            && number >= *at
        {
            cancel.cancel();
        }
        if let Some((_, delay)) = self.script.slow.filter(|(lane, _)| *lane == self.lane) {
            std::thread::sleep(delay);
        }
        if self.script.fail.is_some_and(|(lane, every)| lane == self.lane && number.is_multiple_of(every)) {
            return Err("scripted failure".into());
        }
        let ghosts = if self.lane.service() == "onnx" { self.script.ghosts } else { 0 };
        self.counted.requests.fetch_add(1 + ghosts, Ordering::SeqCst);
        self.counted.images.fetch_add(firsts.len() as u64, Ordering::SeqCst);
        let factor = self.script.skew.filter(|(lane, _)| *lane == self.lane).map_or(1.0, |(_, factor)| factor);
        Ok(firsts.iter().map(|first| (1..=WIDTH).map(|i| first * factor / i as f32).collect()).collect())
    }

    fn tensor_infer(&self, datatype: &str, tensor: &[u8]) -> Result<Vec<Vec<f32>>, String> {
        let firsts: Vec<_> = if datatype == "BYTES" {
            elements::iter(tensor).map(|image| brightness(image.unwrap())).collect()
        } else {
            tensor.chunks(IMAGE_BYTES).map(|image| f32::from_le_bytes(image[..4].try_into().unwrap())).collect()
        };
        self.infer(&firsts)
    }

    /// The stage times of a response as a header: [`STAGED_INFER_US`] in the model, 0 elsewhere.
    fn server_timing(&self) -> Option<String> {
        let ms = STAGED_INFER_US as f64 / 1e3;
        let rest =
            ["receive", "parse", "queue", "gather", "copy_in", "copy_out", "encode"].map(|s| format!("{s};dur=0"));
        self.script.stage_times.then(|| format!("{}, infer;dur={ms}", rest.join(", ")))
    }

    fn provider(&self) -> Option<&'static str> {
        (!self.script.anonymous && !self.script.stock).then_some("CPUExecutionProvider")
    }
}

fn bytes_of(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect()
}

async fn serve_http(routes: Router, state: Arc<LaneState>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(move |_| {
        state.accepted.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

async fn serve_grpc(state: Arc<LaneState>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counting = Arc::clone(&state);
    let incoming = futures_util::stream::unfold(listener, move |listener| {
        let counting = Arc::clone(&counting);
        async move {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            counting.accepted.fetch_add(1, Ordering::SeqCst);
            Some((accepted, listener))
        }
    });
    let service = GrpcInferenceServiceServer::new(service::Scripted(state)).max_decoding_message_size(64 << 20);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

fn metrics_routes(state: Arc<LaneState>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(state)
}

async fn metrics(State(state): State<Arc<LaneState>>) -> Response {
    if state.script.stock {
        return StatusCode::NOT_FOUND.into_response();
    }
    let requests = state.counted.requests.load(Ordering::SeqCst);
    let images = state.counted.images.load(Ordering::SeqCst);
    let line = |name: &str, value: u64| format!("nv_inference_{name}{{model=\"{MODEL}\",version=\"1\"}} {value}\n");
    [
        line("request_success", requests),
        line("count", images),
        line("exec_count", requests),
        line("request_duration_us", requests * (INFER_US + 500)),
        line("compute_infer_duration_us", requests * INFER_US),
        if state.script.gpu { GPU.to_owned() } else { String::new() },
    ]
    .concat()
    .into_response()
}

fn jpeg_routes(state: Arc<LaneState>) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .route(
            "/model-info",
            get(|State(state): State<Arc<LaneState>>| async move {
                let precision = state.script.precision;
                Json(json!({"model": MODEL, "effective_provider": state.provider(), "precision": precision}))
            }),
        )
        .route("/metrics", get(metrics))
        .route("/embed", post(embed_raw))
        .route("/embed/base64", post(embed))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(state)
}

async fn embed(State(state): State<Arc<LaneState>>, Json(request): Json<Value>) -> Response {
    let images = request["images"].as_array().unwrap().iter();
    let firsts: Vec<_> = images
        .map(|image| brightness(&base64_simd::STANDARD.decode_to_vec(image.as_str().unwrap()).unwrap()))
        .collect();
    embeddings(&state, &firsts)
}

async fn embed_raw(State(state): State<Arc<LaneState>>, image: Bytes) -> Response {
    embeddings(&state, &[brightness(&image)])
}

fn embeddings(state: &LaneState, firsts: &[f32]) -> Response {
    match state.infer(firsts) {
        Ok(rows) => {
            let timing = state.server_timing().map(|value| [(SERVER_TIMING, value)]);
            (timing, Json(json!({"embeddings": rows, "model_info": {}, "count": rows.len()}))).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": error}))).into_response(),
    }
}

fn kserve_routes(state: Arc<LaneState>) -> Router {
    Router::new()
        .route("/v2", get(|| async { Json(json!({"name": "scripted", "version": "1.2.3", "extensions": []})) }))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(ready))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/systemsharedmemory/region/{region}/{action}", post(transports::region))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(state)
}

async fn ready(Path(model): Path<String>) -> Response {
    if model == MODEL {
        return StatusCode::OK.into_response();
    }
    (StatusCode::NOT_FOUND, Json(json!({"error": format!("unknown model '{model}'")}))).into_response()
}

/// Triton's form: 64-bit numbers as numbers.
async fn statistics(State(state): State<Arc<LaneState>>) -> Response {
    if !state.script.stock {
        return StatusCode::NOT_FOUND.into_response();
    }
    let counted = state.counted.statistics();
    let stats = counted.inference_stats.unwrap_or_default();
    let duration = |d: Option<pb::StatisticDuration>| d.map(|d| json!({"count": d.count, "ns": d.ns}));
    let stats = json!({"success": duration(stats.success), "fail": {"count": 0, "ns": 0}, "queue": duration(stats.queue),
        "compute_input": duration(stats.compute_input), "compute_infer": duration(stats.compute_infer),
        "compute_output": duration(stats.compute_output)});
    Json(json!({"model_stats": [{"name": counted.name, "version": counted.version, "last_inference": 0, "inference_count":
        counted.inference_count, "execution_count": counted.execution_count, "inference_stats": stats, "batch_stats": []}]}))
    .into_response()
}

async fn metadata(State(state): State<Arc<LaneState>>) -> Response {
    let body =
        Json(json!({"name": MODEL, "versions": ["1"], "platform": "onnxruntime_onnx", "inputs": [], "outputs": []}));
    let provider = state.provider().map(|provider| [(EFFECTIVE_PROVIDER, provider)]);
    let precision = state.script.precision.map(|precision| [(PRECISION, precision)]);
    (provider, precision, body).into_response()
}

async fn infer(State(state): State<Arc<LaneState>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(json_bytes) = headers.get(INFERENCE_HEADER_CONTENT_LENGTH) else {
        return transports::infer(&state, &body).unwrap_or_else(|| infer_json(&state, &body));
    };
    let json_bytes: usize = json_bytes.to_str().unwrap().parse().unwrap();
    let request: Value = serde_json::from_slice(&body[..json_bytes]).unwrap();
    assert_eq!(request["inputs"][0]["parameters"]["binary_data_size"], json!(body.len() - json_bytes));
    match state.tensor_infer(request["inputs"][0]["datatype"].as_str().unwrap(), &body[json_bytes..]) {
        Ok(rows) => {
            let data = bytes_of(&rows);
            let output = json!({"name": "embedding", "datatype": "FP32", "shape": [rows.len(), WIDTH],
                "parameters": {"binary_data_size": data.len()}});
            let json = json!({"model_name": MODEL, "model_version": "1", "outputs": [output]}).to_string();
            let length = json.len().to_string();
            let timing = state.server_timing().map(|value| [(SERVER_TIMING, value)]);
            (timing, [(INFERENCE_HEADER_CONTENT_LENGTH, length)], [json.into_bytes(), data].concat()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": error}))).into_response(),
    }
}

/// The same with numbers in JSON in request and response.
fn infer_json(state: &LaneState, body: &[u8]) -> Response {
    let request: Value = serde_json::from_slice(body).unwrap();
    let first = request["inputs"][0]["data"][0].as_f64().unwrap() as f32;
    match state.infer(&[first]) {
        Ok(rows) => {
            let output = json!({"name": "embedding", "datatype": "FP32", "shape": [1, WIDTH], "data": rows.concat()});
            Json(json!({"model_name": MODEL, "model_version": "1", "outputs": [output]})).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": error}))).into_response(),
    }
}

/// The response of `ModelInfer`.
fn grpc_answer(state: &LaneState, request: &pb::ModelInferRequest) -> Result<pb::ModelInferResponse, tonic::Status> {
    if let Some(answer) = transports::grpc_answer(state, request) {
        return answer;
    }
    let rows = state
        .tensor_infer(&request.inputs[0].datatype, &request.raw_input_contents[0])
        .map_err(tonic::Status::unavailable)?;
    Ok(pb::ModelInferResponse {
        model_name: MODEL.into(),
        outputs: vec![pb::model_infer_response::InferOutputTensor {
            name: "embedding".into(),
            datatype: "FP32".into(),
            shape: vec![rows.len() as i64, WIDTH as i64],
            ..Default::default()
        }],
        raw_output_contents: vec![bytes_of(&rows).into()],
        ..Default::default()
    })
}
