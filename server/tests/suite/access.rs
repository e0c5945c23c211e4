//! Tests of a server process with TLS and tokens.

use std::fs;

use crate::server::{Suite, program, small_models};

#[test]
fn tritons_clients_use_tls_and_tokens() {
    let (models, folder) = (small_models(), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(file("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    fs::write(file("tokens"), "first-token-0123456789\nother-token-0123456789\n").unwrap();
    let flags = [
        format!("--auth-token-file={}", file("tokens")),
        format!("--http-tls-cert={}", file("cert.pem")),
        format!("--http-tls-key={}", file("key.pem")),
        "--grpc-use-ssl=true".to_owned(),
        format!("--grpc-server-cert={}", file("cert.pem")),
        format!("--grpc-server-key={}", file("key.pem")),
    ];
    let server = Suite::triton(models.path(), &flags.each_ref().map(String::as_str));
    let output = server.python("access.py", &[&file("cert.pem"), &file("tokens")]);
    assert!(output.ends_with("access ok\n"), "{output}");
}

#[test]
fn files_that_cannot_be_used_end_the_start() {
    for (flags, words) in [
        (&["--auth-token-file=/nowhere/tokens"][..], "cannot read /nowhere/tokens"),
        (&["--http-tls-cert=/nowhere/cert", "--http-tls-key=/nowhere/key"], "cannot read /nowhere/cert"),
        (&["--http-tls-cert=/nowhere/cert"], "--http-tls-cert needs --http-tls-key"),
        (&["--grpc-use-ssl-mutual"], "--grpc-use-ssl needs --grpc-server-cert"),
        (&["--http-restricted-api=helth:k=v"], "unknown restricted api 'helth'"),
        (&["--grpc-restricted-protocol=health"], "--grpc-restricted-protocol option format is"),
        (&["--allow-origin=example.com"], "'example.com' is not an origin"),
    ] {
        let refused = program(&["--model-repository=/nowhere"]).args(flags).output().unwrap();
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && stderr.contains(words), "{stderr}");
    }
}
