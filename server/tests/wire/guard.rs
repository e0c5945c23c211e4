//! The guard around every connection: the timers of HTTP/2 in virtual time, and a listener at its limit on real sockets.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quintet_proto::inference::{
    ModelInferRequest, ModelStreamInferResponse, ServerLiveRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
};
use quintet_server::{
    observe::metrics::Closed,
    transport::{guard::Reason, http1, io_threads::IoThreads, kserve_grpc, kserve_http, listener::Listener},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::ServiceExt as _;

use crate::support::{GRPC, Server, floats, framed, over_http, raw, start};

const SECOND: Duration = Duration::from_secs(1);

/// What the sender gets.
fn receive<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

/// A connection in memory, and why the server ends it.
fn connect(server: &Server) -> (DuplexStream, JoinHandle<Option<Reason>>) {
    let (client, stream) = tokio::io::duplex(16 << 10);
    let serving =
        kserve_grpc::serve_connection(stream, Arc::clone(&server.service), server.options, server.stop.clone());
    let ended = async { serving.await.err().and_then(|error| error.downcast().ok()) };
    (client, tokio::spawn(ended))
}

/// A channel over such a connection.
async fn channel(server: &Server) -> (Channel, JoinHandle<Option<Reason>>) {
    let (client, serving) = connect(server);
    let mut client = Some(client);
    let connector = tower::service_fn(move |_| {
        let client = client.take();
        async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    (Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap(), serving)
}

/// A call of `method` whose client reads at most `window` bytes, and sends what the sender gets.
async fn call(
    client: DuplexStream,
    method: &str,
    window: u32,
) -> (mpsc::UnboundedSender<Bytes>, JoinHandle<hyper::Result<http::Response<hyper::body::Incoming>>>) {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (mut client, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let (sender, body) = mpsc::unbounded_channel::<Bytes>();
    let body = StreamBody::new(Box::pin(receive(body).map(|data| Ok::<_, Infallible>(Frame::data(data)))));
    let request = http::Request::post(format!("http://localhost/inference.GRPCInferenceService/{method}"))
        .header(GRPC.0, GRPC.1)
        .body(body)
        .unwrap();
    let response = tokio::spawn(async move {
        let response = client.send_request(request).await;
        // The connection lives as long as its client.
        std::mem::forget(client);
        response
    });
    (sender, response)
}

#[tokio::test(start_paused = true)]
async fn a_silent_http2_connection_ends() {
    let server = start().await;
    let (mut client, serving) = connect(&server);
    let started = Instant::now();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(serving.await.unwrap(), Some(Reason::FirstByte));
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_without_a_stream_gets_a_goaway() {
    let server = start().await;
    let (channel, serving) = channel(&server).await;
    let mut client = GrpcInferenceServiceClient::new(channel);
    for _ in 0..3 {
        client.server_live(ServerLiveRequest {}).await.unwrap();
        sleep(SECOND * 299).await;
    }
    assert!(!serving.is_finished());
    let started = Instant::now();
    assert_eq!(serving.await.unwrap(), Some(Reason::Idle));
    assert!((1..=2).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(server.service.catalog().connections().get(Closed::Idle), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_acknowledge_settings_or_answer_a_ping_is_disconnected() {
    let server = start().await;
    let (mut client, serving) = connect(&server);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    serving.await.unwrap();
    let counters = server.service.catalog().connections();
    assert_eq!(counters.get(Closed::Settings), 1);

    // The client vanishes while its stream is open: nothing reads and writes any more.
    let (client, stream) = tokio::io::duplex(16 << 10);
    let (mut near, mut far) = (client, connect(&server));
    let (sender, response) = call(stream, "ModelStreamInfer", 65_535).await;
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far.0) => panic!("the connection ended"),
        () = sleep(SECOND) => {}
    }
    far.0.read_to_end(&mut Vec::new()).await.unwrap();
    far.1.await.unwrap();
    assert_eq!(counters.get(Closed::Ping), 1);
    drop((sender, response));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stops_ends_the_connection() {
    let server = start().await;
    let message = framed(&floats("echo", 1));
    for method in ["ModelInfer", "ServerLive", "ModelStreamInfer"] {
        // A stream may rest before its first message, and not within one.
        let (client, serving) = connect(&server);
        let (sender, response) = call(client, method, 65_535).await;
        sender.send(Bytes::copy_from_slice(&message[..4])).unwrap();
        let started = Instant::now();
        assert_eq!(serving.await.unwrap(), Some(Reason::Body), "{method}");
        assert!((60..=61).contains(&started.elapsed().as_secs()), "{method}: {:?}", started.elapsed());
        // The head of a stream's response comes before its first message.
        assert_eq!(response.await.unwrap().is_ok(), method == "ModelStreamInfer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stops_ends_its_connection_also_beside_busy_calls() {
    let server = start().await;
    let (channel, serving) = channel(&server).await;
    // 8 bytes at once and then one in 20 seconds, of a message of many more.
    let slow = stream::unfold(0, |sent: u64| async move {
        sleep(if sent == 0 { Duration::ZERO } else { SECOND * 20 }).await;
        Some((
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(if sent == 0 {
                &[0, 0, 0, 99, 0, 10, 4, 101]
            } else {
                b"c"
            }))),
            sent + 1,
        ))
    });
    let request =
        http::Request::post("http://localhost/inference.GRPCInferenceService/ModelInfer").header(GRPC.0, GRPC.1);
    let request =
        request.body(tonic::body::Body::new(StreamBody::new(Box::pin(slow)).map_err(|never| match never {}))).unwrap();
    let mut stopped = channel.clone();
    tokio::spawn(async move { tower::Service::call(stopped.ready().await.unwrap(), request).await });
    let mut client = GrpcInferenceServiceClient::new(channel);
    let started = Instant::now();
    while !serving.is_finished() && started.elapsed() < SECOND * 1000 {
        let _ = client.model_infer(floats("echo", 1)).await;
        sleep(SECOND).await;
    }
    assert_eq!(serving.await.unwrap(), Some(Reason::Body));
    assert!((60..=130).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_at_64_kbit_meets_no_timer_over_http2() {
    let server = start().await;
    let text = vec![7; 100_000];
    let element = [&(text.len() as u32).to_le_bytes()[..], &text].concat();
    let message = framed(&raw("text", "BYTES", &[1], element));
    let (client, _serving) = connect(&server);
    let (sender, response) = call(client, "ModelInfer", 8000).await;
    // Two seconds at 64 kbit/s, then a pause of 50 seconds.
    for part in message.chunks(16_000) {
        sleep(SECOND * 52).await;
        sender.send(Bytes::copy_from_slice(part)).unwrap();
    }
    drop(sender);
    let mut body = response.await.unwrap().unwrap().into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().data_ref().map_or(0, Bytes::len);
        sleep(SECOND * 10).await;
    }
    assert!(received > text.len(), "{received}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_an_http2_client_does_not_take_ends_the_connection() {
    let server = start().await;
    let text = vec![7; 100_000];
    let element = [&(text.len() as u32).to_le_bytes()[..], &text].concat();
    let message = framed(&raw("text", "BYTES", &[1], element));
    let (client, serving) = connect(&server);
    let (sender, response) = call(client, "ModelInfer", 1000).await;
    sender.send(message.into()).unwrap();
    drop(sender);
    // The window stays empty, while the connection is read.
    let response = response.await.unwrap().unwrap();
    let started = Instant::now();
    assert_eq!(serving.await.unwrap(), Some(Reason::Answer));
    assert!((59..=61).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn streams_may_rest_and_models_may_compute_for_hours() {
    let server = start().await;
    let (channel, serving) = channel(&server).await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    let mut watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let (sender, requests) = mpsc::unbounded_channel::<ModelInferRequest>();
    let mut answers = client.model_stream_infer(receive(requests)).await.unwrap().into_inner();
    for _ in 0..2 {
        sleep(SECOND * 7200).await;
        sender.send(floats("echo", 1)).unwrap();
        let ModelStreamInferResponse { error_message, .. } = answers.next().await.unwrap().unwrap();
        assert_eq!(error_message, "");
    }
    let computing = tokio::spawn(async move { client.model_infer(floats("slow", 1)).await });
    sleep(SECOND * 7200).await;
    server.gate.open();
    computing.await.unwrap().unwrap();
    assert!(!serving.is_finished());
}

/// Serves HTTP with at most `max` connections, and returns its port.
async fn limited_http(server: &Server, max: usize) -> u16 {
    let listener = Listener::bind("onnx-http", ([127, 0, 0, 1], 0).into(), max).await.unwrap();
    let port = listener.port().unwrap();
    let (router, threads) = (kserve_http::router(Arc::clone(&server.service)), IoThreads::start().unwrap());
    tokio::spawn(http1::serve::serve(listener, router, Arc::clone(&server.service), threads, server.stop.clone()));
    port
}

/// Serves gRPC with at most `max` connections, and returns its port.
async fn limited_grpc(server: &Server, max: usize) -> u16 {
    let listener = Listener::bind("onnx-grpc", ([127, 0, 0, 1], 0).into(), max).await.unwrap();
    let port = listener.port().unwrap();
    let (service, threads) = (Arc::clone(&server.service), IoThreads::start().unwrap());
    tokio::spawn(kserve_grpc::serve(listener, service, server.options, threads, server.stop.clone()));
    port
}

async fn grpc_client(port: u16) -> GrpcInferenceServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    GrpcInferenceServiceClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn silent_connections_do_not_lock_a_port() {
    let server = start().await;
    let (http, grpc) = (limited_http(&server, 4).await, limited_grpc(&server, 4).await);
    let mut silent = Vec::new();
    for port in [http, grpc].repeat(50) {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let answer = over_http(http, "GET", "/v2/health/live", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(grpc_client(grpc).await.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(server.service.catalog().connections().get(Closed::Shed) >= 2 * 46);
    // The first ones were ended.
    for mut ended in silent.drain(..80) {
        ended.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn a_listener_whose_connections_are_all_busy_answers_probes_and_refuses_the_rest() {
    let server = start().await;
    let (http, grpc) = (limited_http(&server, 1).await, limited_grpc(&server, 1).await);
    let busy = tokio::spawn(async move {
        let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#;
        over_http(http, "POST", "/v2/models/slow/infer", body).await
    });
    let mut client = grpc_client(grpc).await;
    let busy_grpc = tokio::spawn(async move { client.model_infer(floats("slow", 1)).await });
    while server.model("slow").pending_requests() + server.gate.entered() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        let answer = over_http(http, "GET", path, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let refused = over_http(http, "GET", "/v2", "").await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("--max-connections"), "{refused}");
    assert!(grpc_client(grpc).await.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let refused = grpc_client(grpc).await.model_infer(floats("echo", 1)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().contains("--max-connections"), "{refused}");

    // Silent ones take the reserve, too, and give it back.
    let mut silent = Vec::new();
    for port in [http, grpc].repeat(40) {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let answer = over_http(http, "GET", "/v2/health/live", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.gate.open();
    assert!(busy.await.unwrap().starts_with("HTTP/1.1 200"));
    busy_grpc.await.unwrap().unwrap();
}

#[tokio::test]
async fn newcomers_are_refused_while_open_requests_finish() {
    let server = start().await;
    let http = server.http().await;
    let busy = tokio::spawn(async move {
        let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#;
        over_http(http, "POST", "/v2/models/slow/infer", body).await
    });
    while server.gate.entered() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // Connections that rest: silent, with a part of a head, idle.
    let mut resting = Vec::new();
    for sent in ["", "GET / HT", "GET /v2 HTTP/1.1\r\n\r\n"] {
        let mut connection = TcpStream::connect(("127.0.0.1", http)).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        if sent.ends_with("\r\n\r\n") {
            connection.read_u8().await.unwrap();
        }
        resting.push(connection);
    }
    server.stop.cancel();
    for mut connection in resting {
        // Ends by itself, with a reset if bytes were unread.
        let _ = connection.read_to_end(&mut Vec::new()).await;
    }
    for port in [http, server.port] {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(!busy.is_finished());
    server.gate.open();
    assert!(busy.await.unwrap().starts_with("HTTP/1.1 200"));
}
