//! Start and shutdown of the server, as seen by probes and clients.

use std::{
    convert::Infallible,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use quintet_proto::inference::{
    ModelInferRequest, ServerLiveRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    photo,
    server::{MODEL, Suite, models, program, signal},
};

/// The status of a GET on a new connection; `None` if the port is closed.
fn status(port: u16, path: &str) -> Option<u16> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1)?.parse().ok()
}

/// Reads one complete response and leaves the connection open.
fn answer(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).unwrap();
    head + &String::from_utf8_lossy(&body)
}

/// A server in Triton mode whose model's load waits until something is written into the pipe.
struct Loading {
    process: Child,
    http: u16,
    grpc: u16,
    pipe: PathBuf,
    _repository: TempDir,
}

impl Loading {
    fn start() -> Self {
        Self::start_with(None)
    }

    /// With the socket on which systemd listens.
    fn start_with(notify_socket: Option<&Path>) -> Self {
        let repository = tempfile::tempdir().unwrap();
        let model = repository.path().join(MODEL);
        fs::create_dir_all(model.join("1")).unwrap();
        let onnx = Path::new(MODEL).join("1/model.onnx");
        fs::copy(models().join(&onnx), repository.path().join(&onnx)).unwrap();
        let pipe = model.join("labels");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let config = "output { name: \"logits\" label_filename: \"labels\" }";
        fs::write(model.join("config.pbtxt"), config).unwrap();

        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, grpc] = free.map(|free| free.local_addr().unwrap().port());
        let mut command = program(&["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--allow-metrics=false"]);
        command.arg(format!("--http-port={http}")).arg(format!("--grpc-port={grpc}"));
        command.arg("--model-repository").arg(repository.path());
        command.envs(notify_socket.map(|path| ("NOTIFY_SOCKET", path)));
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let loading = Self { process, http, grpc, pipe, _repository: repository };
        loading.wait_for("/v2/health/live", 200);
        loading
    }

    fn wait_for(&self, path: &str, wanted: u16) {
        while status(self.http, path) != Some(wanted) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alive_from_the_start_and_ready_once_loaded() {
    let server = Loading::start();
    assert_eq!(status(server.http, "/v2/health/ready"), Some(503));
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.grpc)).unwrap().connect().await.unwrap();
    let mut grpc = GrpcInferenceServiceClient::new(channel);
    assert!(grpc.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(!grpc.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    // 404 until the repository is known, then 400.
    let model_ready = format!("/v2/models/{MODEL}/ready");
    assert_ne!(status(server.http, &model_ready), Some(200));
    fs::write(&server.pipe, "cat\n").unwrap();
    server.wait_for("/v2/health/ready", 200);
    assert_eq!(status(server.http, &model_ready), Some(200));
    assert!(grpc.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
}

#[test]
fn sigterm_while_a_model_loads_ends_the_server_with_success() {
    let mut server = Loading::start();
    // The load has begun: someone reads the pipe. It never ends.
    let _pipe = fs::OpenOptions::new().write(true).open(&server.pipe).unwrap();
    let _silent = TcpStream::connect(("127.0.0.1", server.http)).unwrap();
    signal("TERM", server.process.id());
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

#[test]
fn systemd_is_notified_when_the_server_is_ready_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let receive = || {
        let mut message = [0; 64];
        systemd.recv(&mut message).map(|length| String::from_utf8_lossy(&message[..length]).into_owned())
    };
    let mut server = Loading::start_with(Some(&path));
    systemd.set_nonblocking(true).unwrap();
    assert!(receive().is_err(), "the server is alive, but not ready");
    systemd.set_nonblocking(false).unwrap();
    fs::write(&server.pipe, "cat\n").unwrap();
    assert_eq!(receive().unwrap(), "READY=1\n");
    assert_eq!(status(server.http, "/v2/health/ready"), Some(200));
    signal("TERM", server.process.id());
    assert_eq!(receive().unwrap(), "STOPPING=1\n");
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_rest_do_not_delay_the_exit() {
    let mut suite = Suite::start(&["--service=onnx,jpeg"]);
    let mut resting = Vec::new();
    for listener in ["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics"] {
        for sent in
            ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "GET /healthz HTTP/1.0\r\nconnecti"]
        {
            let mut connection = TcpStream::connect(("127.0.0.1", suite.port(listener))).unwrap();
            connection.write_all(sent.as_bytes()).unwrap();
            resting.push(connection);
        }
    }
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", suite.port("onnx-grpc"))).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    // Streams that rest, and one that is open on a connection of its own.
    let mut watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let (_sender, requests) = mpsc::channel::<ModelInferRequest>(1);
    let _answers = client.model_stream_infer(ReceiverStream(requests)).await.unwrap();
    let _call = Call::begin(suite.port("onnx-grpc"), "ModelStreamInfer", Bytes::new()).await;
    suite.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
    assert!(suite.log().contains("every accepted request was answered"), "{}", suite.log());
}

#[test]
fn a_client_that_does_not_read_delays_the_exit_up_to_its_limit() {
    let mut suite = Suite::start(&["--service=onnx", "--exit-timeout-secs=1"]);
    let mut connection = TcpStream::connect(("127.0.0.1", suite.port("onnx-metrics"))).unwrap();
    // Answers fill the buffers of the socket, until the server cannot write and so does not read.
    connection.set_nonblocking(true).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let (mut sent, mut refused) = (0, 0);
    while refused < 100 {
        if let Ok(more) = connection.write(&requests.as_bytes()[sent..]) {
            (sent, refused) = ((sent + more) % requests.len(), 0);
        } else {
            refused += 1;
            thread::sleep(Duration::from_millis(20));
        }
    }
    suite.signal("TERM");
    assert_eq!(suite.wait().code(), Some(1), "{}", suite.log());
    assert!(suite.log().contains("exit timeout reached"), "{}", suite.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_falls_before_the_listeners_close_and_newcomers_are_refused_then() {
    let mut suite = Suite::start(&["--service=onnx", "--exit-delay-secs=3600"]);
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", suite.port("onnx-grpc"))).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    wait_for_drain(&suite);
    // On new connections, which are still accepted.
    let port = suite.port("onnx-http");
    assert_eq!((status(port, "/v2/health/ready"), status(port, "/v2/health/live")), (Some(503), Some(200)));
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let checked = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(checked, ServingStatus::NotServing);
    let mut client = GrpcInferenceServiceClient::new(channel);
    assert!(!client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    suite.signal("TERM");
    assert_eq!(suite.wait().code(), Some(1), "{}", suite.log());

    let mut suite = Suite::start(&["--service=onnx"]);
    let (head, tensor, _) = image();
    let kserve = format!("POST /v2/models/{MODEL}/infer HTTP/1.1\r\ninference-header-content-length: {head}");
    let mut open = begin(&suite, 1, "onnx-http", &kserve, &tensor);
    wait_for_drain(&suite);
    for listener in ["onnx-http", "onnx-grpc", "onnx-metrics"] {
        while TcpStream::connect(("127.0.0.1", suite.port(listener))).is_ok() {
            thread::yield_now();
        }
    }
    open[0].write_all(&tensor[1000..]).unwrap();
    assert!(answer(&mut open[0]).starts_with("http/1.1 200"));
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
}

/// A KServe request for one image of zeros: the length of the JSON header and the body for HTTP, the message for gRPC.
fn image() -> (usize, Vec<u8>, ModelInferRequest) {
    let data = vec![0; 4 * 3 * 224 * 224];
    let tensor = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"FP32","shape":[1,3,224,224],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        data.len()
    );
    let input = InferInputTensor {
        name: "image".into(),
        datatype: "FP32".into(),
        shape: vec![1, 3, 224, 224],
        ..Default::default()
    };
    let message = ModelInferRequest {
        model_name: MODEL.into(),
        inputs: vec![input],
        raw_input_contents: vec![data.clone().into()],
        ..Default::default()
    };
    (tensor.len(), [tensor.into_bytes(), data].concat(), message)
}

/// Opens `count` connections, each with a request whose first part the server has read.
fn begin(suite: &Suite, count: usize, listener: &str, head: &str, body: &[u8]) -> Vec<TcpStream> {
    let begun = (0..count).map(|_| {
        let mut connection = TcpStream::connect(("127.0.0.1", suite.port(listener))).unwrap();
        write!(
            connection,
            "{head}\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        let output = answer(&mut connection);
        assert!(output.starts_with("http/1.1 100"), "{output}");
        connection.write_all(&body[..1000]).unwrap();
        connection
    });
    begun.collect()
}

/// A gRPC call whose first part the server has read; the rest of the body goes into the sender.
struct Call {
    rest: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    answer: JoinHandle<(Option<String>, usize)>,
}

impl Call {
    /// Sends the first part of the body; another call on the same connection has been answered after it.
    async fn begin(port: u16, path: &str, first: Bytes) -> Self {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let call = |path: &str, body: mpsc::Receiver<_>| {
            let body = StreamBody::new(ReceiverStream(body));
            let request = http::Request::post(format!("http://x/inference.GRPCInferenceService/{path}"));
            request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap()
        };
        let (rest, body) = mpsc::channel(4);
        rest.send(Ok(Frame::data(first))).await.unwrap();
        let response = client.send_request(call(path, body));
        let answer = tokio::spawn(async move {
            let response = response.await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
            (status.map(|status| status.to_str().unwrap().to_owned()), body.to_bytes().len())
        });
        let (live, body) = mpsc::channel(1);
        live.send(Ok(Frame::data(Bytes::from_static(&[0; 5])))).await.unwrap();
        drop(live);
        client.send_request(call("ServerLive", body)).await.unwrap().into_body().collect().await.unwrap();
        Self { rest, answer }
    }
}

struct ReceiverStream<T>(mpsc::Receiver<T>);

impl<T> futures_util::Stream for ReceiverStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

fn wait_for_drain(suite: &Suite) {
    suite.signal("TERM");
    while !suite.log().contains("draining") {
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_accepted_request() {
    const REQUESTS: usize = 24;
    let mut suite = Suite::start(&["--service=jpeg,onnx"]);
    let photo = fs::read(photo("rocket.jpg")).unwrap();
    let (head, tensor, message) = image();
    let kserve = format!("POST /v2/models/{MODEL}/infer HTTP/1.1\r\ninference-header-content-length: {head}");
    let lanes = [
        ("jpeg", "POST /embed HTTP/1.1\r\ncontent-type: image/jpeg", &photo, "\"count\":1"),
        ("onnx-http", &kserve, &tensor, "\"model_name\""),
    ];
    let mut open: Vec<_> =
        lanes.iter().map(|(lane, head, body, _)| begin(&suite, REQUESTS, lane, head, body)).collect();
    let mut framed = vec![0];
    framed.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut framed).unwrap();
    let framed = Bytes::from(framed);
    let mut calls = Vec::new();
    for _ in 0..REQUESTS {
        calls.push(Call::begin(suite.port("onnx-grpc"), "ModelInfer", framed.slice(..1000)).await);
    }
    wait_for_drain(&suite);
    for (connections, (_, _, body, _)) in open.iter_mut().zip(&lanes) {
        connections.iter_mut().for_each(|connection| connection.write_all(&body[1000..]).unwrap());
    }
    for Call { rest, .. } in &calls {
        rest.send(Ok(Frame::data(framed.slice(1000..)))).await.unwrap();
    }
    for Call { rest, answer } in calls {
        drop(rest);
        let (status, bytes) = answer.await.unwrap();
        assert!(status.as_deref() == Some("0") && bytes > 4000, "{status:?} {bytes}");
    }
    for (connections, (lane, _, _, wanted)) in open.iter_mut().zip(&lanes) {
        for connection in connections {
            let answer = answer(connection);
            assert!(answer.starts_with("http/1.1 200") && answer.contains(wanted), "{lane}: {answer:.300}");
        }
    }
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
    assert!(suite.log().contains("every accepted request was answered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_stops_at_once_despite_open_requests() {
    let (head, tensor, _) = image();
    let kserve = format!("POST /v2/models/{MODEL}/infer HTTP/1.1\r\ninference-header-content-length: {head}");
    for lane in ["onnx-http", "onnx-grpc"] {
        let mut suite = Suite::start(&["--service=onnx"]);
        let mut open = Vec::new();
        let mut call = None;
        if lane == "onnx-http" {
            open = begin(&suite, 1, lane, &kserve, &tensor);
        } else {
            call = Some(Call::begin(suite.port(lane), "ModelInfer", Bytes::from_static(&[0; 1])).await);
        }
        wait_for_drain(&suite);
        suite.signal("TERM");
        assert_eq!(suite.wait().code(), Some(1), "{lane}: {}", suite.log());
        assert!(suite.log().contains("second signal"), "{lane}");
        drop((open, call));
    }
}
