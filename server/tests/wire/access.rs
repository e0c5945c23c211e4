//! Who may do what, on real sockets: tokens, restricted groups, sites.

use std::{fs, path::Path, sync::Arc};

use quintet_proto::inference::{
    ServerLiveRequest, ServerMetadataRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
};
use quintet_server::transport::{
    access::{Access, Reload as _, Reloaded, Restricted, Rules, Sites, Tokens},
    http1,
    io_threads::IoThreads,
    kserve_grpc, kserve_http,
    listener::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, metadata::MetadataValue, transport::Endpoint};

use crate::support::{Server, floats, start};

const TOKEN: &str = "first-token-0123456789";
const OTHER: &str = "other-token-0123456789";

/// Serves HTTP and gRPC behind these guards, and returns their ports.
pub async fn guarded(server: &Server, http: Access, grpc: Access) -> [u16; 2] {
    let bind = |name| Listener::bind(name, ([127, 0, 0, 1], 0).into(), 64);
    let (first, second) =
        (bind("http").await.unwrap().with_access(http), bind("grpc").await.unwrap().with_access(grpc));
    let ports = [first.port().unwrap(), second.port().unwrap()];
    let (threads, service) = (IoThreads::start().unwrap(), &server.service);
    let router = kserve_http::router(Arc::clone(service)).route("/metrics", axum::routing::get(|| async { "" }));
    tokio::spawn(http1::serve::serve(first, router, Arc::clone(service), threads.clone(), server.stop.clone()));
    tokio::spawn(kserve_grpc::serve(second, Arc::clone(service), server.options, threads, server.stop.clone()));
    ports
}

/// The response to a request with these header lines on a stream that stays open: status and body.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let (length, end) = (body.len(), "\r\n\r\n");
    let head = format!("{request} HTTP/1.1\r\ncontent-length: {length}\r\n{headers}");
    stream.write_all(format!("{}{end}{body}", head.trim_end()).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once(end) {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return (head[9..12].parse().unwrap(), String::from_utf8_lossy(&read).into_owned());
            }
        }
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return (0, String::from_utf8_lossy(&read).into_owned());
        }
    }
}

async fn once(port: u16, request: &str, headers: &str, body: &str) -> (u16, String) {
    ask(&mut TcpStream::connect(("127.0.0.1", port)).await.unwrap(), request, headers, body).await
}

pub const INFER: &str = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;

fn tokens(folder: &Path, content: &str) -> Arc<Reloaded<Tokens>> {
    let file = folder.join("tokens");
    fs::write(&file, content).unwrap();
    Tokens::from_file(&file).unwrap()
}

#[tokio::test]
async fn http_needs_a_token_but_for_health() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let tokens = tokens(folder.path(), &format!("{TOKEN}\n{OTHER}\n"));
    let access = || Access::from(Rules { tokens: Some(Arc::clone(&tokens)), ..Rules::default() });
    let [port, _] = guarded(&server, access(), access()).await;
    let infer = "POST /v2/models/echo/infer";
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");

    let (status, answer) = once(port, infer, "", INFER).await;
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains(r#"www-authenticate: Bearer realm="quintet""#), "{answer}");
    assert!(answer.contains(r#"{"error":"this server needs a token"#), "{answer}");
    let (status, answer) = once(port, infer, &bearer("wrong-token-0123456789"), INFER).await;
    assert!(status == 401 && answer.contains(r#"error="invalid_token""#), "{answer}");
    for headers in [bearer(TOKEN), bearer(OTHER), format!("Authorization: bearer  {TOKEN}")] {
        assert_eq!(once(port, infer, &headers, INFER).await.0, 200, "{headers}");
    }
    for headers in
        [format!("authorization: Basic {TOKEN}"), format!("authorization: {TOKEN}"), "authorization: ".into()]
    {
        assert_eq!(once(port, infer, &headers, INFER).await.0, 401, "{headers}");
    }
    for open in ["GET /v2/health/live", "GET /v2/health/ready"] {
        assert_eq!(once(port, open, "", "").await.0, 200, "{open}");
    }
    for closed in ["GET /v2", "GET /metrics", "GET /v2/models/echo/ready", "POST /v2/repository/index", "GET /none"] {
        assert_eq!(once(port, closed, "", "").await.0, 401, "{closed}");
    }
    // A refused request with a small body does not end its connection.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(ask(&mut stream, infer, "", &"x".repeat(40_000)).await.0, 401);
    assert_eq!(ask(&mut stream, infer, &bearer(TOKEN), INFER).await.0, 200);
    // A dropped token is refused on open connections, too.
    fs::write(folder.path().join("tokens"), OTHER).unwrap();
    tokens.reload();
    assert_eq!(ask(&mut stream, infer, &bearer(TOKEN), INFER).await.0, 401);
    assert_eq!(ask(&mut stream, infer, &bearer(OTHER), INFER).await.0, 200);
}

#[tokio::test]
async fn a_refused_body_is_not_awaited() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let tokens = tokens(folder.path(), TOKEN);
    let access = Access::from(Rules { tokens: Some(tokens), ..Rules::default() });
    let [port, _] = guarded(&server, access, Access::default()).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn grpc_needs_a_token_but_for_health() {
    let (server, folder) = (start().await, tempfile::tempdir().unwrap());
    let tokens = tokens(folder.path(), TOKEN);
    let access = || Access::from(Rules { tokens: Some(Arc::clone(&tokens)), ..Rules::default() });
    let [_, port] = guarded(&server, access(), access()).await;
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live);
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    assert!(health.check(tonic_health::pb::HealthCheckRequest { service: String::new() }).await.is_ok());
    let refused = client.model_infer(floats("echo", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let refused = client.server_metadata(ServerMetadataRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    for (token, accepted) in [(TOKEN, true), (OTHER, false)] {
        let mut request = Request::new(floats("echo", 1));
        request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
        let answer = client.model_infer(request).await;
        assert_eq!(
            answer.map(|_| ()).map_err(|status| status.code()),
            if accepted { Ok(()) } else { Err(Code::Unauthenticated) }
        );
    }
}

#[tokio::test]
async fn each_restricted_path_needs_its_header() {
    let server = start().await;
    let all = "health,metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging:Key=v";
    let rules = |restricted| Access::from(Rules { restricted, ..Rules::default() });
    let http = rules(Restricted::http(&[all.to_owned()]).unwrap());
    let [port, grpc] = guarded(&server, http, rules(Restricted::grpc(&[all.to_owned()]).unwrap())).await;
    for request in [
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/echo",
        "GET /v2/models/echo/versions/1",
        "GET /v2/models/echo/ready",
        "GET /v2/models/echo/versions/1/ready",
        "GET /v2/models/echo/config",
        "GET /v2/models/echo/versions/1/config",
        "GET /v2/models/stats",
        "GET /v2/models/echo/stats",
        "GET /v2/models/echo/versions/1/stats",
        "POST /v2/models/echo/infer",
        "POST /v2/models/echo/versions/1/infer",
        "POST /v2/repository/index",
        "POST /v2/repository/r/index",
        "POST /v2/repository/models/echo/load",
        "POST /v2/repository/r/models/echo/load",
        "POST /v2/repository/models/echo/unload",
        "POST /v2/repository/r/models/echo/unload",
        "GET /v2/trace/setting",
        "POST /v2/trace/setting",
        "GET /v2/models/echo/trace/setting",
        "POST /v2/models/echo/trace/setting",
        "GET /v2/logging",
        "POST /v2/logging",
        "GET /v2/systemsharedmemory/status",
        "GET /v2/systemsharedmemory/region/a/status",
        "POST /v2/systemsharedmemory/region/a/register",
        "POST /v2/systemsharedmemory/unregister",
        "POST /v2/systemsharedmemory/region/a/unregister",
        "GET /v2/cudasharedmemory/status",
        "GET /v2/cudasharedmemory/region/a/status",
        "POST /v2/cudasharedmemory/region/a/register",
        "POST /v2/cudasharedmemory/unregister",
        "POST /v2/cudasharedmemory/region/a/unregister",
    ] {
        let (status, answer) = once(port, request, "", "").await;
        assert_eq!(status, 403, "{request}: {answer}");
        assert!(answer.contains("This API is restricted, expecting header 'Key'"), "{answer}");
        assert_eq!(once(port, request, "key: w", "").await.0, 403, "{request}");
        assert_ne!(once(port, request, "key: v", "").await.0, 403, "{request}");
    }
    assert_eq!(once(port, "GET /metrics", "", "").await.0, 200);

    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{grpc}")).unwrap().connect().await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    let refused = client.model_infer(floats("echo", 1)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "This protocol is restricted, expecting header 'triton-grpc-protocol-Key'")
    );
    let mut request = Request::new(floats("echo", 1));
    request.metadata_mut().insert("triton-grpc-protocol-key", MetadataValue::from_static("v"));
    assert!(client.model_infer(request).await.is_ok());
}

#[tokio::test]
async fn a_page_of_another_site_runs_nothing_unless_it_is_allowed() {
    let server = start().await;
    let sites = |origins: &[&str]| {
        let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
        Access::from(Rules { sites: Some(Sites::new(&origins, true).unwrap()), ..Rules::default() })
    };
    let [port, _] = guarded(&server, sites(&["https://models.example"]), sites(&[])).await;
    let infer = "POST /v2/models/echo/infer";
    let local = format!("host: localhost:{port}\r\n");
    assert_eq!(once(port, infer, &local, INFER).await.0, 200);
    let (status, answer) = once(port, infer, &format!("{local}origin: https://evil.example"), INFER).await;
    assert!(status == 403 && answer.contains("--allow-origin https://evil.example"), "{answer}");
    let form = format!("{local}content-type: text/plain\r\nsec-fetch-site: cross-site");
    assert_eq!(once(port, infer, &form, INFER).await.0, 403);
    let (status, answer) = once(port, infer, "host: evil.example", INFER).await;
    assert!(status == 403 && answer.contains("not called 'evil.example'"), "{answer}");
    assert_eq!(once(port, "GET /v2", "host: evil.example", "").await.0, 403);
    assert_eq!(server.model("echo").stats().success, 1);

    let allowed = format!("{local}origin: https://models.example\r\n");
    let preflight =
        format!("{allowed}access-control-request-method: POST\r\naccess-control-request-headers: content-type");
    let (status, answer) = once(port, "OPTIONS /v2/models/echo/infer", &preflight, "").await;
    assert_eq!(status, 204, "{answer}");
    assert!(answer.contains("access-control-allow-headers: content-type"), "{answer}");
    let (status, answer) = once(port, infer, &allowed, INFER).await;
    assert!(status == 200 && answer.contains("access-control-allow-origin: https://models.example"), "{answer}");
}
