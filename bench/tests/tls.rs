//! TLS: a scripted suite behind a proxy that terminates TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod support;

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use quintet_bench::{
    client::{
        endpoint::Endpoint,
        payload::{Payload, Photograph},
        target::Target,
        tls::Trust,
    },
    model::{
        cell::Cell,
        connection::{Policy, TlsVersion},
        lane::Lane,
        part::Part,
        report::Report,
        settings::Settings,
    },
    report::{exporter::Exporter as _, markdown::Markdown},
    run::{
        error::RunError,
        preflight::LaneError,
        progress::Silent,
        setup::{Outcome, Run},
    },
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::{MODEL, Script, Suite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::PrivateKeyDer,
        version::{TLS12, TLS13},
    },
};
use tokio_util::sync::CancellationToken;

const LANES: [Lane; 2] = [Lane::ONNX_HTTP, Lane::ONNX_GRPC];

/// A private authority with a certificate for this machine.
struct Authority {
    key: CertifiedKey<rcgen::KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), key.cert.pem()).unwrap();
        Self { key, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Starts a TLS proxy in front of a server; it offers `protocols` by ALPN.
    async fn before(&self, server: &Endpoint, version: TlsVersion, protocols: &[&str]) -> Endpoint {
        let versions = match version {
            TlsVersion::V1_2 => [&TLS12],
            TlsVersion::V1_3 => [&TLS13],
        };
        let key = PrivateKeyDer::try_from(self.key.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.key.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = (server.host().to_owned(), server.port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        format!("https://{address}").parse().unwrap()
    }

    /// The suite's lanes behind such proxies.
    async fn targets(&self, suite: &Suite, version: TlsVersion) -> Vec<Target> {
        let mut targets = Vec::new();
        for lane in LANES {
            let endpoint = self.before(&suite.address(lane.kind.name()), version, &["h2", "http/1.1"]).await;
            let metrics = self.before(&suite.address("onnx-metrics"), version, &["http/1.1"]).await;
            targets.push(Target { lane, endpoint, metrics, model: MODEL.into() });
        }
        targets
    }
}

async fn run(targets: Vec<Target>) -> Result<Report, RunError> {
    let settings = Settings {
        model: MODEL.into(),
        batches: vec![1],
        concurrency: Vec::new(),
        iterations: 6,
        warmup: 1,
        max_warmup: 1,
        blocks: 2,
        ramp: Duration::ZERO,
        connections: vec![Policy::Fresh, Policy::Reused],
        ..Settings::default()
    };
    let photographs = [Photograph { name: "1.jpg".into(), bytes: vec![1; 100].into() }];
    let payload = Payload::new(&photographs, 1, support::preprocess).unwrap();
    let output = tempfile::tempdir().unwrap();
    let (progress, stop) = (&Silent, CancellationToken::new().into());
    let run = Run { settings, targets, payload, output: output.path().to_owned(), progress, resume: None, stop };
    run.run().await.map(|Outcome { report, .. }| report)
}

fn trusted(targets: Vec<Target>, authority: &Authority) -> Vec<Target> {
    let trust = Trust::from_file(&authority.file()).unwrap();
    let trusting = |endpoint: Endpoint| endpoint.trusting(&trust);
    targets.into_iter().map(|t| Target { endpoint: trusting(t.endpoint), metrics: trusting(t.metrics), ..t }).collect()
}

fn cell(report: &Report, lane: Lane, connection: Policy) -> &Cell {
    report.cells.iter().find(|cell| cell.lane == lane && cell.connection == connection).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_is_measured_on_each_new_connection() {
    let script = Script { stage_times: true, ..Script::default() };
    let (suite, authority) = (Suite::start(script).await, Authority::new());
    for version in [TlsVersion::V1_3, TlsVersion::V1_2] {
        let targets = trusted(authority.targets(&suite, version).await, &authority);
        let report = run(targets).await.unwrap();
        assert_eq!(report.failed(), 0);
        for lane in LANES {
            let info = report.lanes.iter().find(|info| info.lane == lane).unwrap();
            assert_eq!(info.tls, Some(version));
            assert!(info.url.starts_with("https://") || info.url.starts_with("grpcs://"), "{}", info.url);
            assert_eq!(info.counters_missing, None, "the metrics are read over TLS too");
            let (fresh, reused) = (cell(&report, lane, Policy::Fresh), cell(&report, lane, Policy::Reused));
            let tls = |cell: &Cell| cell.times.unwrap().tls_ms.unwrap().value;
            assert!(tls(fresh) > 0.0 && tls(fresh) < fresh.times.unwrap().connect_ms.value, "{lane}");
            assert_eq!(tls(reused), 0.0, "{lane}: the handshake was before the first request");
            for (cell, handshakes) in [(fresh, true), (reused, false)] {
                let waterfall = cell.waterfall.as_ref().unwrap();
                assert_eq!(waterfall.ms(Part::Tls).unwrap() > 0.0, handshakes, "{lane}");
                assert!(waterfall.adds_up());
                assert_eq!(cell.samples.parts_us[&Part::Tls].len(), 6, "raw samples have it");
            }
        }
        let text = Markdown.export(&report).unwrap();
        assert!(text.contains("| tls (client) |") && text.contains("TLS part (ms)"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_refused_with_the_remedy() {
    let (suite, authority) = (Suite::start(Script::default()).await, Authority::new());
    let targets = authority.targets(&suite, TlsVersion::V1_3).await;
    let Err(RunError::Lanes(errors)) = run(targets).await else { panic!("trusted") };
    assert_eq!(errors.len(), LANES.len());
    for error in errors {
        assert!(matches!(error, LaneError::Unreachable { .. }));
        let text = error.to_string();
        assert!(text.contains("no trusted authority signed") && text.contains("--ca-file FILE"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_reports_a_proxy_without_http2() {
    let (suite, authority) = (Suite::start(Script::default()).await, Authority::new());
    let server = suite.address(Lane::ONNX_GRPC.kind.name());
    for protocols in [&["http/1.1"][..], &[]] {
        let endpoint = authority.before(&server, TlsVersion::V1_3, protocols).await;
        let target = Target { lane: Lane::ONNX_GRPC, metrics: endpoint.clone(), endpoint, model: MODEL.into() };
        let Err(error) = run(trusted(vec![target], &authority)).await else { panic!("accepted") };
        assert!(error.to_string().contains("no HTTP/2 over TLS (ALPN h2)"), "{error}");
    }
}

#[test]
fn a_file_without_certificates_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "no certificate").unwrap();
    for path in [file, folder.path().join("missing.pem")] {
        let error = Trust::from_file(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} has no usable certificate", path.display())), "{error}");
        let run = Command::new(env!("CARGO_BIN_EXE_quintet-bench")).args(["run", "--ca-file"]).arg(&path).output();
        let run = run.unwrap();
        assert_eq!(run.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&run.stderr).contains("--ca-file"), "{run:?}");
    }
}
