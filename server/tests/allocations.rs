//! Checks that requests in the steady state allocate no buffer of a tensor's size.

#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use quintet_engine::{BatchPolicy, BufferPool, DataType, Model, ModelSpec, TensorSpec, testing::Echo};
use quintet_proto::inference::{ModelConfig, ModelInferRequest, model_infer_request::InferInputTensor};
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    service::Service,
    transport::{http1, io_threads::IoThreads, kserve_grpc, kserve_http, listener::Listener},
};
use tokio_util::sync::CancellationToken;

/// One FP32 image.
const TENSOR_BYTES: usize = 602_112;

/// Counts allocations of at least a tensor's size, except in the client's thread.
struct Counting;

static LARGE: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static CLIENT: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: usize) {
    if bytes >= TENSOR_BYTES && !CLIENT.get() {
        LARGE.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call is the system allocator's own; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller upholds the system allocator's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Serves a model that returns its input over HTTP and gRPC, in threads that are counted. Returns the ports, and the
/// pool of the buffers.
fn start() -> ([u16; 2], BufferPool) {
    let max_input = InputLimit { bytes: 64 << 20, flag: "--max-input-bytes" };
    let limits = Limits { max_input, max_image_pixels: 1, max_images: 1 };
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Onnx, BufferPool::new(64 << 20), limits)));
    let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None]);
    let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
    let model =
        Model::start(spec, vec![Box::new(Echo::default())], vec![], service.catalog().pool().clone(), Duration::ZERO)
            .unwrap();
    service.catalog().put(model, ModelConfig::default());
    let pool = service.catalog().pool().clone();
    let (sender, ports) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let bind = |name| Listener::bind(name, ([127, 0, 0, 1], 0).into(), 8);
            let (first, second) = (bind("onnx-http").await.unwrap(), bind("onnx-grpc").await.unwrap());
            sender.send([first.port().unwrap(), second.port().unwrap()]).unwrap();
            let (threads, stop) = (IoThreads::start().unwrap(), CancellationToken::new());
            let routes = kserve_http::router(Arc::clone(&service));
            tokio::join!(
                http1::serve::serve(first, routes, Arc::clone(&service), threads.clone(), stop.clone()),
                kserve_grpc::serve(
                    second,
                    service,
                    kserve_grpc::Options { max_input, max_stream_requests: 1, compression: None },
                    threads,
                    stop
                )
            );
        });
    });
    (ports.recv().unwrap(), pool)
}

/// An HTTP client that sends a request and reads its response.
fn over_http(port: u16) -> impl FnMut() {
    let json = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{}],"datatype":"FP32","parameters":{{"binary_data_size":{TENSOR_BYTES}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
        TENSOR_BYTES / 4
    );
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n",
        json.len(),
        json.len() + TENSOR_BYTES
    );
    let request = [head.as_bytes(), json.as_bytes(), &[1; TENSOR_BYTES]].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answer = vec![0; TENSOR_BYTES + 4096];
    move || {
        stream.write_all(&request).unwrap();
        let (mut filled, mut end) = (0, usize::MAX);
        while filled < end {
            filled += stream.read(&mut answer[filled..]).unwrap();
            if let Some(head) = answer[..filled.min(4096)].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let text = std::str::from_utf8(&answer[..head]).unwrap();
                assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
                let length = text.split("\r\ncontent-length: ").nth(1).unwrap();
                end = head + 4 + length.split("\r\n").next().unwrap().parse::<usize>().unwrap();
            }
        }
        assert_eq!(answer[end - TENSOR_BYTES..end], [1; TENSOR_BYTES]);
    }
}

/// A gRPC client on one connection, which the calling thread drives.
fn over_grpc(port: u16) -> impl FnMut() {
    let message = ModelInferRequest {
        model_name: "echo".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, TENSOR_BYTES as i64 / 4],
            ..Default::default()
        }],
        raw_input_contents: vec![vec![1; TENSOR_BYTES].into()],
        ..Default::default()
    };
    let mut body = vec![0];
    body.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut body).unwrap();
    let body = Bytes::from(body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let io = TokioIo::new(stream);
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (client, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        client
    });
    move || {
        let request = ::http::Request::post("http://localhost/inference.GRPCInferenceService/ModelInfer")
            .header("content-type", "application/grpc")
            .body(Full::new(body.clone()))
            .unwrap();
        let answer =
            runtime.block_on(async { client.send_request(request).await.unwrap().into_body().collect().await });
        let answer = answer.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        let answer = answer.to_bytes();
        assert_eq!(answer[answer.len() - TENSOR_BYTES..], [1; TENSOR_BYTES]);
    }
}

/// Warms up, then counts. A client receives the response just before the server releases the buffer, so each request
/// waits until the earlier buffers are back in the pool.
fn steady(name: &str, pool: &BufferPool, mut request: impl FnMut()) {
    (0..10).for_each(|_| request());
    std::thread::sleep(Duration::from_millis(50));
    let (before, idle) = (LARGE.load(Relaxed), pool.idle_bytes());
    for _ in 0..50 {
        request();
        let answered = Instant::now();
        while pool.idle_bytes() < idle {
            assert!(answered.elapsed() < Duration::from_secs(10), "a buffer does not return to the pool over {name}");
            std::thread::yield_now();
        }
    }
    let large = LARGE.load(Relaxed) - before;
    assert_eq!(large, 0, "allocations of {TENSOR_BYTES} bytes or more in 50 requests over {name}");
}

/// One test, because it counts for the whole process.
#[test]
fn a_request_in_the_steady_state_allocates_no_buffer_of_a_tensors_size() {
    let ([http_port, grpc_port], pool) = start();
    CLIENT.set(true);
    steady("HTTP", &pool, over_http(http_port));
    steady("gRPC", &pool, over_grpc(grpc_port));
    assert!(LARGE.load(Relaxed) > 0, "nothing was counted, not even the first request's buffer");
}
