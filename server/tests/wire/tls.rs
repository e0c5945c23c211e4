//! TLS on HTTP and gRPC, on real sockets.

use std::{fs, io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use ::http::{HeaderMap, header};
use clap::Parser as _;
use hyper_util::rt::TokioIo;
use quintet_bench::{
    client::{self, call::HttpVersion, connection::Connection, grpc, http, tls::Trust, token},
    model::limits::Limits,
};
use quintet_proto::inference::{ServerMetadataRequest, grpc_inference_service_client::GrpcInferenceServiceClient};
use quintet_server::{
    process::check::{self, Check},
    transport::access::{Access, Named, Reload as _, Rules, Tls, TlsFiles, Tokens},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
    },
};
use tonic::transport::Endpoint;

use crate::{
    access::{INFER, ask, guarded},
    support::{WIDTH, raw, start},
};

/// An authority, and files of a server that it vouches for.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, folder };
        authority.renew();
        authority
    }

    /// A certificate for localhost, and its key.
    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes another certificate of the server.
    fn renew(&self) {
        let (certificate, key) = self.issue();
        fs::write(self.file("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self, protocol: &'static str, mutual: bool) -> Tls {
        let named = |name| Named { path: self.file(name), flag: "--flag" };
        let client_authorities = mutual.then(|| named("ca.pem"));
        let files = TlsFiles { certificate: named("cert.pem"), key: named("key.pem"), client_authorities };
        Tls::new(files, protocol, Duration::from_secs(30)).unwrap()
    }

    /// A connection to the server, with or without a certificate of a client.
    async fn connect(&self, port: u16, protocol: &str, certificate: bool) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if certificate {
            let (certificate, key) = self.issue();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

fn access(tls: Tls) -> Access {
    Access::from(Rules { tls: Some(tls), ..Rules::default() })
}

#[tokio::test]
async fn http_and_grpc_speak_tls() {
    let (server, authority) = (start().await, Arc::new(Authority::new()));
    let [http, grpc] =
        guarded(&server, access(authority.tls("http/1.1", false)), access(authority.tls("h2", false))).await;
    let mut stream = authority.connect(http, "http/1.1", false).await.unwrap();
    for _ in 0..2 {
        let (status, answer) = ask(&mut stream, "POST /v2/models/echo/infer", "", INFER).await;
        assert_eq!(status, 200, "{answer}");
    }
    // What hyper serves, after what it does not serve.
    let (status, _) = ask(&mut stream, "GET /v2/health/ready", "connection: close", "").await;
    assert_eq!(status, 200);
    assert!(authority.connect(http, "h2", false).await.is_err());

    let connector = tower::service_fn(move |_| {
        let authority = Arc::clone(&authority);
        async move { authority.connect(grpc, "h2", false).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel).max_decoding_message_size(8 << 20);
    // Larger than the buffers of socket and TLS.
    let rows = 8;
    let large = raw("text", "BYTES", &[1], [&(3u32 << 20).to_le_bytes()[..], &vec![b'x'; 3 << 20]].concat());
    for sent in [raw("echo", "FP32", &[rows, WIDTH as i64], vec![1; 8 * WIDTH * 4]), large] {
        let answer = client.model_infer(sent.clone()).await.unwrap().into_inner();
        assert!(answer.raw_output_contents == sent.raw_input_contents);
    }
}

#[tokio::test]
async fn a_large_answer_reaches_a_slow_reader() {
    let (server, authority) = (start().await, Authority::new());
    let tls = access(authority.tls("http/1.1", false));
    let [http, _] = guarded(&server, tls, Access::default()).await;
    let mut stream = authority.connect(http, "http/1.1", false).await.unwrap();
    let text = "x".repeat(3 << 20);
    let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"BYTES","data":["{text}"]}}]}}"#);
    let head = format!("POST /v2/models/text/infer HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    // The answer fills the buffers of the connection before it is read.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"x\"]}]}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.len() > text.len());
}

#[derive(clap::Parser)]
struct Health {
    #[command(flatten)]
    check: Check,
}

/// The exit status of `quintet-server health` with these flags.
async fn health(flags: Vec<String>) -> ExitCode {
    let check = Health::try_parse_from(std::iter::once("health".to_owned()).chain(flags)).unwrap().check;
    tokio::task::spawn_blocking(move || check::run(&check).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_health_check_speaks_tls() {
    let (server, authority) = (start().await, Authority::new());
    let [http, _] = guarded(&server, access(authority.tls("http/1.1", false)), Access::default()).await;
    let file = |name| authority.file(name).display().to_string();
    let url = |host| vec!["--url".into(), format!("https://{host}:{http}")];
    let with = |host, more: &[&str]| [url(host), more.iter().map(|&flag| flag.to_owned()).collect()].concat();
    assert_eq!(health(url("127.0.0.1")).await, ExitCode::SUCCESS);
    assert_eq!(health(with("localhost", &["--ca-file", &file("ca.pem")])).await, ExitCode::SUCCESS);
    let stranger = Authority::new();
    let other = stranger.file("ca.pem").display().to_string();
    assert_eq!(health(with("localhost", &["--ca-file", &other])).await, ExitCode::FAILURE);
    assert_eq!(health(vec!["--url".into(), format!("127.0.0.1:{http}")]).await, ExitCode::FAILURE);
    // A token is not sent to a server that nobody vouches for.
    fs::write(authority.file("tokens"), "0123456789abcdef").unwrap();
    assert_eq!(health(with("localhost", &["--auth-token-file", &file("tokens")])).await, ExitCode::FAILURE);
}

#[tokio::test]
async fn the_benchmarks_client_speaks_tls_and_sends_a_token() {
    let (server, authority) = (start().await, Authority::new());
    fs::write(authority.file("tokens"), "0123456789abcdef").unwrap();
    let tokens = Tokens::from_file(&authority.file("tokens")).unwrap();
    let access = |protocol| {
        let (tls, tokens) = (Some(authority.tls(protocol, false)), Some(Arc::clone(&tokens)));
        Access::from(Rules { tls, tokens, ..Rules::default() })
    };
    let [http_port, grpc_port] = guarded(&server, access("http/1.1"), access("h2")).await;
    let trust = Trust::from_file(&authority.file("ca.pem")).unwrap();
    let token = token::authorization(&authority.file("tokens")).unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, token)]);
    let endpoint =
        |port| format!("https://localhost:{port}").parse::<client::endpoint::Endpoint>().unwrap().trusting(&trust);
    for (authorised, status) in [(true, 200), (false, 401)] {
        let [http_endpoint, grpc_endpoint] = [http_port, grpc_port].map(|port| match authorised {
            true => endpoint(port).with_headers(&headers),
            false => endpoint(port),
        });
        let request = http::get(&http_endpoint, "/v2").unwrap();
        let mut connection = Connection::new(http_endpoint, HttpVersion::Http1, Limits::default());
        assert_eq!(connection.call(&request).await.unwrap().status, status);
        let request = grpc::unary(&grpc_endpoint, "ServerMetadata", &ServerMetadataRequest {}).unwrap();
        let mut connection = Connection::new(grpc_endpoint, HttpVersion::Http2, Limits::default());
        assert_eq!(grpc::check(&connection.call(&request).await.unwrap()).is_ok(), authorised);
    }
}

#[tokio::test]
async fn a_client_certificate_is_demanded_where_authorities_are_given() {
    let (server, authority) = (start().await, Authority::new());
    let tls = access(authority.tls("http/1.1", true));
    let [http, _] = guarded(&server, tls, Access::default()).await;
    let mut stream = authority.connect(http, "http/1.1", true).await.unwrap();
    assert_eq!(ask(&mut stream, "GET /v2/health/ready", "", "").await.0, 200);
    // With TLS 1.3 the client learns of the refusal when it reads.
    if let Ok(mut stream) = authority.connect(http, "http/1.1", false).await {
        let _ = stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\n\r\n").await;
        let mut answer = Vec::new();
        let outcome = stream.read_to_end(&mut answer).await;
        assert!(outcome.is_err() && answer.is_empty(), "{outcome:?} {answer:?}");
    }
}

#[tokio::test]
async fn new_connections_get_the_new_certificate() {
    let (server, authority) = (start().await, Authority::new());
    let tls = authority.tls("http/1.1", false);
    let files = tls.reloaded();
    let [http, _] = guarded(&server, access(tls), Access::default()).await;
    let shown = async || {
        let stream = authority.connect(http, "http/1.1", false).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let mut open = authority.connect(http, "http/1.1", false).await.unwrap();
    let first = shown().await;
    authority.renew();
    assert!(shown().await == first);
    files.reload();
    assert!(shown().await != first);
    assert_eq!(ask(&mut open, "GET /v2/health/ready", "", "").await.0, 200);
}

#[tokio::test]
async fn clients_without_tls_are_refused() {
    let (server, authority) = (start().await, Authority::new());
    let [http, _] = guarded(&server, access(authority.tls("http/1.1", false)), Access::default()).await;
    let mut stream = TcpStream::connect(("127.0.0.1", http)).await.unwrap();
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
