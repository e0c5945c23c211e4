//! Tests of model repositories in an object store: a local S3 server, and servers that refuse. `make test-optional` runs them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::server::{MODEL, Suite, models, program, small_models};

/// A local S3 server, which ends with its test.
struct S3 {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl S3 {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../.quintet/object-stores-venv/bin/python");
        assert!(python.exists(), "there is no {}: run `make test-optional`", python.display());
        let mut command = Command::new(python);
        command.arg(root.join("tests/python/object_store.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut s3 = Self { process, answers, port: 0 };
        s3.port = s3.answer().parse().unwrap();
        s3
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, words: &[&str]) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{}", words.join("\t")).unwrap();
        assert_eq!(self.answer(), "ok", "{words:?}");
    }

    fn put(&mut self, key: &str, file: &Path) {
        self.tell(&["put", key, file.to_str().unwrap()]);
    }

    /// Puts the files of a model below `prefix`, and returns their keys.
    fn put_model(&mut self, prefix: &str, model: &Path) -> Vec<String> {
        let name = model.file_name().unwrap().to_str().unwrap();
        let mut keys = Vec::new();
        for file in files(model) {
            let key = format!("{prefix}/{name}/{}", file.strip_prefix(model).unwrap().display());
            self.tell(&["put-in-parts", &key, file.to_str().unwrap()]);
            keys.push(key);
        }
        keys
    }

    /// The address of a prefix in the bucket.
    fn address(&self, prefix: &str) -> PathBuf {
        format!("s3://127.0.0.1:{}/models/{prefix}", self.port).into()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

/// Whether this is no file of a model.
fn is_hidden(file: &Path) -> bool {
    file.file_name().unwrap().to_str().unwrap().starts_with('.')
}

/// A folder for copies, and the flag that names it.
fn cache() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let flag = format!("--object-store-cache={}", folder.path().display());
    (folder, flag)
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hush"), ("AWS_DEFAULT_REGION", "us-east-1")];

/// Waits until `is_so`; fails with the log after a minute.
fn wait_until(server: &Suite, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_ready(server: &Suite, model: &str) -> bool {
    server.get("http", &format!("/v2/models/{model}/ready")).starts_with("HTTP/1.1 200")
}

/// What a server that does not start says.
fn refusal(address: &str, keys: &[(&str, &str)]) -> String {
    let (_folder, cache) = cache();
    let mut command = program(&["--http-port=0", "--grpc-port=0", "--metrics-port=0", &cache]);
    command.args(["--model-repository", address]);
    let of_stores = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars().filter(|(name, _)| of_stores(name)) {
        command.env_remove(name);
    }
    command.envs(keys.iter().copied());
    let output = command.output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(!log.contains("hush") && !log.contains("Signature="), "{log}");
    log
}

#[test]
fn object_stores_serve_the_suite_and_a_restart_reads_nothing_again() {
    let mut s3 = S3::start();
    let keys = s3.put_model("repository", &models().join(MODEL));
    let (folder, cache) = cache();
    let address = s3.address("repository");
    let start = || {
        let mut command = program(&["suite", "--service=onnx", &cache, "--model-repository"]);
        command.arg(&address).envs(KEYS);
        Suite::run(command, &["onnx-http", "onnx-grpc", "onnx-metrics"])
    };
    let suite = start();
    assert!(suite.get("onnx-http", &format!("/v2/models/{MODEL}/ready")).starts_with("HTTP/1.1 200"));
    assert!(suite.log().contains("copied a model"), "{}", suite.log());
    let copies: Vec<_> = files(folder.path()).into_iter().filter(|file| !is_hidden(file)).collect();
    assert_eq!(copies.len(), keys.len());
    for (copy, key) in copies.iter().zip(&keys) {
        let original = models().join(key.strip_prefix("repository/").unwrap());
        assert!(fs::read(copy).unwrap() == fs::read(original).unwrap(), "{key}");
    }
    drop(suite);
    let suite = start();
    assert!(!suite.log().contains("copied a model"), "{}", suite.log());
}

#[test]
fn object_stores_are_polled() {
    let mut s3 = S3::start();
    let small = small_models();
    let names: Vec<_> = fs::read_dir(small.path()).unwrap().map(|it| it.unwrap().path()).collect();
    let (one, two) = (&names[0], &names[1]);
    let name = |model: &Path| model.file_name().unwrap().to_str().unwrap().to_owned();
    let keys = s3.put_model("repository", one);
    let (folder, cache) = cache();
    let flags = [
        &cache[..],
        "--model-control-mode=poll",
        "--repository-poll-secs=1",
        "--strict-readiness=false",
        "--exit-on-error=false",
    ];
    let server = Suite::triton_with(&s3.address("repository"), &flags, &KEYS);
    wait_until(&server, || is_ready(&server, &name(one)));
    s3.put_model("repository", two);
    wait_until(&server, || is_ready(&server, &name(two)));
    for key in keys {
        s3.tell(&["delete", &key]);
    }
    wait_until(&server, || !is_ready(&server, &name(one)));
    assert!(is_ready(&server, &name(two)));
    // A name that leads out of the folder: nothing is written, and what is served stays.
    let file = files(two).remove(0);
    s3.put("repository/m/../../../evil", &file);
    wait_until(&server, || server.log().contains("rename or delete this object"));
    assert!(is_ready(&server, &name(two)) && !folder.path().with_file_name("evil").exists());
    assert!(!server.log().contains("hush"));
}

#[test]
fn object_stores_are_read_when_a_client_loads() {
    let mut s3 = S3::start();
    let small = small_models();
    let mut models: Vec<_> = fs::read_dir(small.path()).unwrap().map(|it| it.unwrap().path()).collect();
    models.sort();
    for model in &models {
        s3.put_model("repository", model);
    }
    let (folder, cache) = cache();
    let flags = [&cache[..], "--model-control-mode=explicit"];
    let server = Suite::triton_with(&s3.address("repository"), &flags, &KEYS);
    let copied = || files(folder.path()).iter().filter(|file| !is_hidden(file)).count();
    assert_eq!(copied(), 0);
    let model = models[0].file_name().unwrap().to_str().unwrap();
    assert!(server.post("http", "/v2/repository/index").contains(model));
    let load = || server.post("http", &format!("/v2/repository/models/{model}/load"));
    assert!(load().starts_with("HTTP/1.1 200"), "{}", server.log());
    assert!(is_ready(&server, model) && copied() == files(&models[0]).len());
    let missing = server.post("http", "/v2/repository/models/nosuch/load");
    assert!(missing.contains("failed to load 'nosuch', failed to poll from model repository"), "{missing}");
    // While the store is away a load fails and says why, and the model stays in service.
    s3.process.kill().unwrap();
    s3.process.wait().unwrap();
    let away = load();
    assert!(away.contains("cannot read s3://127.0.0.1") && away.contains("Connection refused"), "{away}");
    assert!(is_ready(&server, model));
}

/// A store that refuses every request, and repeats what it was sent.
fn refusing_store() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("s3://{}/bucket/models", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = [0; 8192];
            let length = connection.read(&mut head).unwrap();
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>hush</Message><Head>{}</Head></Error>",
                String::from_utf8_lossy(&head[..length])
            );
            let length = body.len();
            let answer =
                format!("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn object_stores_that_refuse_are_named_with_the_remedy_and_no_secret() {
    let s3 = S3::start();
    let of = |bucket: &str| format!("s3://127.0.0.1:{}/{bucket}", s3.port);
    let absent = refusal(&of("nosuch/models"), &KEYS);
    assert!(absent.contains("(NoSuchBucket): there is no such bucket"), "{absent}");
    let nothing = refusal(&of("models/nosuch"), &KEYS);
    assert!(nothing.contains("models/nosuch: there is nothing in a folder below it"), "{nothing}");
    let wrong = refusal(&refusing_store(), &KEYS);
    assert!(wrong.contains("it answers 403 Forbidden (SignatureDoesNotMatch): set AWS_ACCESS_KEY_ID and"), "{wrong}");
    let half = refusal("s3://bucket/models", &KEYS[1..]);
    assert!(half.contains("Missing AccessKeyId: set AWS_ACCESS_KEY_ID and"), "{half}");
    // Nobody listens there, as on a machine that is in no cloud.
    let none = refusal("s3://bucket/models", &[("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")]);
    assert!(
        none.contains("there are no credentials, and this machine's cloud gives none: set AWS_ACCESS_KEY_ID"),
        "{none}"
    );
    let account = refusal("az://container/models", &[]);
    assert!(account.contains("set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"), "{account}");
    let file = refusal("gs://bucket/models", &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")]);
    assert!(file.contains("set GOOGLE_APPLICATION_CREDENTIALS"), "{file}");
}
