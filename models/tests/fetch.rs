//! `fetch` against a fake hub on loopback: complete, interrupted, damaged and missing files, and no network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic in its helpers too")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use common::{CommandOutput, run, stdout};
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest as _, Sha256};

const REPO: &str = "timm/resnet18.tv_in1k";

/// Serves one file as the hub does: the first response has the checksum and redirects to the bytes.
struct Hub {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    content: Vec<u8>,
    sha256: String,
    /// The connection closes after this number of body bytes.
    close_after_bytes: AtomicUsize,
    /// The `Range` of each request for bytes, except requests for the size (`0-0`).
    ranges: Mutex<Vec<String>>,
}

impl Hub {
    fn new(content: Vec<u8>, sha256: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            content,
            sha256,
            close_after_bytes: AtomicUsize::new(usize::MAX),
            ranges: Mutex::default(),
        });
        let (for_thread, own_url) = (Arc::clone(&shared), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The client may close the connection early.
                let _ = for_thread.respond(stream, &own_url);
            }
        });
        Self { url, shared }
    }

    fn with_content(content: Vec<u8>) -> Self {
        let sha256 = sha256(&content);
        Self::new(content, sha256)
    }

    fn ranges(&self) -> Vec<String> {
        self.shared.ranges.lock().unwrap().clone()
    }

    /// Runs `fetch` with a cache and a repository below `dir`.
    fn fetch(&self, dir: &Path) -> CommandOutput {
        fetch(&self.url, dir)
    }
}

impl Shared {
    fn respond(&self, mut stream: TcpStream, own_url: &str) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = request.split(' ').nth(1).unwrap_or_default();
        let mut range = String::from("0-");
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("range")
            {
                range = value.replace("bytes=", "");
            }
        }
        if path == format!("/{REPO}/resolve/main/model.safetensors") {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {own_url}/bytes\r\nX-Linked-ETag: \"{}\"\r\nX-Repo-Commit: 0123abcd\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n",
                self.sha256,
            );
        }
        if path != "/bytes" {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(self.content.len() - 1);
        let body = &self.content[first..=last];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.content.len(),
            body.len(),
        )?;
        if range != "0-0" {
            self.ranges.lock().unwrap().push(range);
        }
        let sent = body.len().min(self.close_after_bytes.load(Ordering::SeqCst));
        stream.write_all(&body[..sent])
    }
}

fn fetch(endpoint: &str, dir: &Path) -> CommandOutput {
    let (cache, models) = (dir.join("cache"), models(dir));
    let mut args = vec!["fetch", "--arch", "resnet18", "--variants", "fp32", "--endpoint", endpoint];
    args.extend(["--cache-dir", cache.to_str().unwrap(), "--output", models.to_str().unwrap()]);
    run(&args)
}

fn models(dir: &Path) -> PathBuf {
    dir.join("models")
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A .safetensors file with one small tensor: valid as a download, but not the weights of a model.
fn tiny_file() -> Vec<u8> {
    let bias = vec![0; 4000];
    let view = TensorView::new(Dtype::F32, vec![1000], &bias).unwrap();
    safetensors::serialize([("fc.bias", view)], None).unwrap()
}

#[test]
fn resumes_an_interrupted_download_and_builds_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("weights.safetensors");
    stdout(&["weights", "--arch", "resnet18", "--output", weights.to_str().unwrap()]);
    let content = fs::read(&weights).unwrap();
    let checksum = sha256(&content);
    let hub = Hub::with_content(content);

    hub.shared.close_after_bytes.store(1_000_000, Ordering::SeqCst);
    let interrupted = hub.fetch(dir.path());
    assert_eq!(interrupted.code, 2, "{interrupted:?}");
    assert!(interrupted.stderr.contains("run the same command again to resume it"), "{interrupted:?}");
    assert_eq!(interrupted.stdout, "");
    assert!(!models(dir.path()).exists());

    hub.shared.close_after_bytes.store(usize::MAX, Ordering::SeqCst);
    let resumed = hub.fetch(dir.path());
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.contains(&format!("sha256 {checksum}")), "{resumed:?}");
    assert_eq!(resumed.stdout, format!("{}\n", models(dir.path()).join("resnet18").display()));
    assert_eq!(hub.ranges(), ["0-", "1000000-"]);

    // The third time, nothing is downloaded and nothing is written.
    let again = hub.fetch(dir.path());
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("unchanged, not rewritten"), "{again:?}");
    assert_eq!(hub.ranges().len(), 2);

    // The model from the download equals the model from the file.
    let from_file = dir.path().join("from-file");
    let file = from_file.to_str().unwrap();
    stdout(&[
        "build",
        "--arch",
        "resnet18",
        "--variants",
        "fp32",
        "--weights",
        weights.to_str().unwrap(),
        "--output",
        file,
    ]);
    let model = Path::new("resnet18/1/model.onnx");
    assert!(fs::read(from_file.join(model)).unwrap() == fs::read(models(dir.path()).join(model)).unwrap());
}

#[test]
fn deletes_a_damaged_download() {
    let dir = tempfile::tempdir().unwrap();
    let wrong_sha256 = sha256(b"something else");
    let output = Hub::new(tiny_file(), wrong_sha256.clone()).fetch(dir.path());
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains(&format!("the hub states {wrong_sha256}")), "{output:?}");
    assert!(!models(dir.path()).exists());

    // The next attempt starts from the first byte.
    let hub = Hub::with_content(tiny_file());
    hub.fetch(dir.path());
    assert_eq!(hub.ranges(), ["0-"]);
}

#[test]
fn rejects_a_partial_download_that_does_not_match() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::with_content(tiny_file());
    let blobs = dir.path().join("cache/models--timm--resnet18.tv_in1k/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.part", hub.shared.sha256)), [0; 10_000]).unwrap();
    let output = hub.fetch(dir.path());
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("delete the files *.part in"), "{output:?}");
    assert!(output.stderr.contains(blobs.to_str().unwrap()), "{output:?}");
}

#[test]
fn writes_no_model_from_wrong_weights() {
    let dir = tempfile::tempdir().unwrap();
    let output = Hub::with_content(tiny_file()).fetch(dir.path());
    assert_eq!(output.code, 2, "{output:?}");
    assert!(
        output.stderr.contains("these are not weights of resnet18: `conv1.weight` [64, 3, 7, 7] is missing"),
        "{output:?}"
    );
    assert!(!models(dir.path()).exists());
}

#[test]
fn names_a_repository_that_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::with_content(tiny_file());
    let cache = dir.path().join("cache");
    let mut args = vec!["fetch", "--arch", "resnet18", "--repo", "nobody/nothing", "--endpoint", &hub.url];
    args.extend(["--cache-dir", cache.to_str().unwrap(), "--output", "unused"]);
    let output = run(&args);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("no public file model.safetensors in nobody/nothing at revision main"),
        "{output:?}"
    );
    assert!(output.stderr.contains("HTTP status 404"), "{output:?}");
}

#[test]
fn without_a_network_the_error_names_the_alternatives() {
    let dir = tempfile::tempdir().unwrap();
    // The listener is dropped at once, so nothing listens on its port.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = fetch(&format!("http://{closed}"), dir.path());
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains(&format!("cannot reach http://{closed}")), "{output:?}");
    assert!(output.stderr.contains("build --seed N"), "{output:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
}
