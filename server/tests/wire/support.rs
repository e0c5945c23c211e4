//! A server on a free port, and two clients: tonic's, and one that sends arbitrary bytes.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::{Condvar, Mutex};
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, QueuePolicy, RunRequest,
    RunTimings, Tensor, TensorSpec, testing::Echo,
};
use quintet_onnxruntime::ThreadPool;
use quintet_proto::inference::{
    InferTensorContents, ModelConfig, ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use quintet_server::{
    backend::onnx::ProviderPolicy,
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    kserve::trace::Traces,
    repository::{AUTO_COMPLETE_MAX_BATCH_SIZE, Loader, Mode, Options, Repository},
    service::Service,
    transport::{http1, io_threads::IoThreads, kserve_grpc, kserve_http, listener::Listener},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Maximum bytes of a message.
pub const MAX_INPUT_BYTES: usize = 4 << 20;
/// Elements of a row of `echo`.
pub const WIDTH: usize = 4;
/// Requests of a stream that may run at the same time.
pub const STREAM_REQUESTS: usize = 2;
/// Requests that may wait for `slow`.
pub const SLOW_QUEUE: usize = 2;

pub struct Server {
    pub service: Arc<Service>,
    pub options: kserve_grpc::Options,
    pub port: u16,
    pub stop: CancellationToken,
    pub serving: JoinHandle<()>,
    pub gate: Gate,
}

/// Holds its runs until it is opened, then echoes.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    entered: usize,
}

impl Gate {
    pub fn open(&self) {
        self.0.0.lock().open = true;
        self.0.1.notify_all();
    }

    /// Number of started runs.
    pub fn entered(&self) -> usize {
        self.0.0.lock().entered
    }
}

impl Instance for Gate {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let mut state = self.0.0.lock();
        state.entered += 1;
        self.0.1.wait_while(&mut state, |state| !state.open);
        Echo::default().run(request, timings)
    }

    fn placement(&self) -> Placement {
        Echo::default().placement()
    }
}

/// A failing test must not leave the instance's thread, and so the process, waiting.
impl Drop for Server {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Serves `echo` (FP32 rows of [`WIDTH`], up to 8 of them), `text` (BYTES, any number, no batch dimension), `half`
/// (FP16), `pair` (UINT8 `x` and INT64 `y`, which is echoed) and `slow`, which waits for its gate.
pub async fn start() -> Server {
    start_tracing(Traces::none()).await
}

/// [`start`], with traces.
pub async fn start_tracing(traces: Traces) -> Server {
    start_with(traces, BufferPool::new(64 << 20)).await
}

/// [`start`], with this pool.
pub async fn start_within(pool: BufferPool) -> Server {
    start_with(Traces::none(), pool).await
}

async fn start_with(traces: Traces, pool: BufferPool) -> Server {
    let max_input = InputLimit { bytes: MAX_INPUT_BYTES, flag: "--max-input-bytes" };
    let limits = Limits { max_input, max_image_pixels: 1, max_images: 1 };
    let service = Service::new(Catalog::new(ServiceName::Onnx, pool, limits)).with_traces(traces);
    let service = Arc::new(service);
    let rows = |data_type| vec![TensorSpec::new("x", data_type, [Some(WIDTH)])];
    let gate = Gate::default();
    put(&service, "echo", rows(DataType::Fp32), 8, Box::new(Echo { poison: Some(13), ..Echo::default() }));
    put(&service, "text", vec![TensorSpec::new("x", DataType::Bytes, [None])], 0, Box::new(Echo::default()));
    put(&service, "half", rows(DataType::Fp16), 8, Box::new(Echo::default()));
    let pair = vec![TensorSpec::new("y", DataType::Int64, [None]), TensorSpec::new("x", DataType::Uint8, [None])];
    put(&service, "pair", pair, 0, Box::new(Echo::default()));
    put(&service, "slow", rows(DataType::Fp32), 1, Box::new(gate.clone()));
    serve(service, gate).await
}

/// Serves the models of a service over gRPC.
pub async fn serve(service: Arc<Service>, gate: Gate) -> Server {
    let max_input = service.catalog().limits().max_input;
    let options = kserve_grpc::Options { max_input, max_stream_requests: STREAM_REQUESTS, compression: None };
    serve_with(service, gate, options).await
}

/// The same with these options.
pub async fn serve_with(service: Arc<Service>, gate: Gate, options: kserve_grpc::Options) -> Server {
    let listener = Listener::bind("onnx-grpc", ([127, 0, 0, 1], 0).into(), 64).await.unwrap();
    let (port, stop) = (listener.port().unwrap(), CancellationToken::new());
    let threads = IoThreads::start().unwrap();
    let serving = tokio::spawn(kserve_grpc::serve(listener, Arc::clone(&service), options, threads, stop.clone()));
    Server { service, options, port, stop, serving, gate }
}

fn put(service: &Service, name: &str, inputs: Vec<TensorSpec>, max_batch_size: usize, instance: Box<dyn Instance>) {
    let queue =
        QueuePolicy { max_queue_size: SLOW_QUEUE, allow_timeout_override: name == "slow", ..QueuePolicy::default() };
    let policy = BatchPolicy { max_batch_size, queue, ..BatchPolicy::default() };
    let mut output = inputs[0].clone();
    output.name = "y".into();
    let spec = ModelSpec::new(name, 1, inputs, vec![output], policy).unwrap();
    let model = Model::start(spec, vec![instance], vec![], service.catalog().pool().clone(), Duration::ZERO).unwrap();
    service
        .catalog()
        .put(model, ModelConfig { name: name.into(), backend: "onnxruntime".into(), ..Default::default() });
}

/// Attaches the repository in `root` to the server; nothing is loaded yet.
pub fn attach(server: &Server, root: &Path, mode: Mode) -> Arc<Repository> {
    attach_resting(server, root, mode, None)
}

/// As [`attach`], with models that rest after a time without a request.
pub fn attach_resting(server: &Server, root: &Path, mode: Mode, idle_unload: Option<Duration>) -> Arc<Repository> {
    let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
    let loader = Loader {
        library,
        providers: None,
        policy: ProviderPolicy::Fallback,
        engine_cache: None,
        weights: None,
        auto_complete: Some(AUTO_COMPLETE_MAX_BATCH_SIZE),
        parameters: Vec::new(),
        response_cache: None,
        idle_unload,
    };
    let roots = vec![root.to_owned()].into();
    let options = Options { roots, mode, loader, loads_at_once: 4, load_retries: 0, strict_readiness: true };
    let repository = Arc::new(Repository::new(Arc::clone(server.service.catalog()), options));
    server.service.attach(Arc::clone(&repository));
    repository
}

/// The complete response to a request on a new connection.
pub async fn over_http(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

impl Server {
    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel().await)
    }

    /// Serves HTTP too, and returns its port.
    pub async fn http(&self) -> u16 {
        let listener = Listener::bind("onnx-http", ([127, 0, 0, 1], 0).into(), 64).await.unwrap();
        let port = listener.port().unwrap();
        let router = kserve_http::router(Arc::clone(&self.service));
        tokio::spawn(http1::serve::serve(
            listener,
            router,
            Arc::clone(&self.service),
            IoThreads::start().unwrap(),
            self.stop.clone(),
        ));
        port
    }

    pub fn model(&self, name: &str) -> Arc<Model> {
        self.service.catalog().registry().resolve(name, None).unwrap()
    }

    /// Sends these bytes as the body of a `ModelInfer` request.
    pub async fn send(&self, headers: &[(&'static str, &'static str)], body: impl Into<Bytes>) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::post("http://localhost/inference.GRPCInferenceService/ModelInfer")
            .body(Full::new(body.into()))
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let response = client.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Raw { status: head.status.as_u16(), headers: head.headers, trailers }
    }
}

/// A response as received.
pub struct Raw {
    pub status: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
}

/// gRPC's content type.
pub const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A message with its prefix.
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut body).unwrap();
    body
}

/// Input `x` with raw data.
pub fn raw(model: &str, data_type: &str, shape: &[i64], data: impl Into<Bytes>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input(data_type, shape, None)],
        raw_input_contents: vec![data.into()],
        ..Default::default()
    }
}

/// Input `x` with typed contents.
pub fn typed(model: &str, data_type: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input(data_type, shape, Some(contents))],
        ..Default::default()
    }
}

/// Input `x`.
pub fn input(data_type: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".into(),
        datatype: data_type.into(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    }
}

/// A request to `echo` or `slow`.
pub fn floats(model: &str, rows: usize) -> ModelInferRequest {
    raw(model, "FP32", &[rows as i64, WIDTH as i64], vec![1; rows * WIDTH * 4])
}
