//! Fetching from a stand-in for the hub on loopback: whole, interrupted, damaged, refused, offline.
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

use common::{Ran, run, stdout};
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest as _, Sha256};

const REPO: &str = "timm/resnet18.tv_in1k";

/// Serves one file as the hub does: an answer with the checksum that redirects to where the bytes are.
struct Hub {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    content: Vec<u8>,
    sha256: String,
    /// After so many bytes of a body the connection breaks.
    breaks_after: AtomicUsize,
    /// The `Range` of each request for bytes, but for those that ask for the size.
    ranges: Mutex<Vec<String>>,
}

impl Hub {
    fn new(content: Vec<u8>, sha256: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared =
            Arc::new(Shared { content, sha256, breaks_after: AtomicUsize::new(usize::MAX), ranges: Mutex::default() });
        let (for_thread, own_url) = (Arc::clone(&shared), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away early is not this server's concern.
                let _ = for_thread.answer(stream, &own_url);
            }
        });
        Self { url, shared }
    }

    fn honest(content: Vec<u8>) -> Self {
        let sha256 = sha256(&content);
        Self::new(content, sha256)
    }

    fn ranges(&self) -> Vec<String> {
        self.shared.ranges.lock().unwrap().clone()
    }

    /// Runs `fetch` with a cache and a repository below `dir`.
    fn fetch(&self, dir: &Path) -> Ran {
        fetch(&self.url, dir)
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream, own_url: &str) -> std::io::Result<()> {
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
        let sent = body.len().min(self.breaks_after.load(Ordering::SeqCst));
        stream.write_all(&body[..sent])
    }
}

fn fetch(endpoint: &str, dir: &Path) -> Ran {
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

/// A .safetensors file with one small tensor: enough for a download, not for a model.
fn tiny_file() -> Vec<u8> {
    let bias = vec![0; 4000];
    let view = TensorView::new(Dtype::F32, vec![1000], &bias).unwrap();
    safetensors::serialize([("fc.bias", view)], None).unwrap()
}

#[test]
fn an_interrupted_download_is_continued_and_then_built() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("weights.safetensors");
    stdout(&["weights", "--arch", "resnet18", "--output", weights.to_str().unwrap()]);
    let content = fs::read(&weights).unwrap();
    let checksum = sha256(&content);
    let hub = Hub::honest(content);

    hub.shared.breaks_after.store(1_000_000, Ordering::SeqCst);
    let broken = hub.fetch(dir.path());
    assert_eq!(broken.code, 2, "{broken:?}");
    assert!(broken.stderr.contains("the same command continues it"), "{broken:?}");
    assert_eq!(broken.stdout, "");
    assert!(!models(dir.path()).exists());

    hub.shared.breaks_after.store(usize::MAX, Ordering::SeqCst);
    let whole = hub.fetch(dir.path());
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.stderr.contains(&format!("sha256 {checksum}")), "{whole:?}");
    assert_eq!(whole.stdout, format!("{}\n", models(dir.path()).join("resnet18").display()));
    assert_eq!(hub.ranges(), ["0-", "1000000-"]);

    // A third time all is there: nothing is downloaded, nothing is written.
    let again = hub.fetch(dir.path());
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("identical, not rewritten"), "{again:?}");
    assert_eq!(hub.ranges().len(), 2);

    // What was downloaded is what the file would have given.
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
fn a_damaged_download_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let promised = sha256(b"something else");
    let ran = Hub::new(tiny_file(), promised.clone()).fetch(dir.path());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains(&format!("the hub says {promised}")), "{ran:?}");
    assert!(!models(dir.path()).exists());

    // The next try starts afresh.
    let hub = Hub::honest(tiny_file());
    hub.fetch(dir.path());
    assert_eq!(hub.ranges(), ["0-"]);
}

#[test]
fn a_partial_download_that_does_not_fit_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::honest(tiny_file());
    let blobs = dir.path().join("cache/models--timm--resnet18.tv_in1k/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.part", hub.shared.sha256)), [0; 10_000]).unwrap();
    let ran = hub.fetch(dir.path());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("delete the files *.part in"), "{ran:?}");
    assert!(ran.stderr.contains(blobs.to_str().unwrap()), "{ran:?}");
}

#[test]
fn weights_that_do_not_fit_leave_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Hub::honest(tiny_file()).fetch(dir.path());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("these are not weights of resnet18: `conv1.weight` [64, 3, 7, 7] is missing"),
        "{ran:?}"
    );
    assert!(!models(dir.path()).exists());
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::honest(tiny_file());
    let cache = dir.path().join("cache");
    let mut args = vec!["fetch", "--arch", "resnet18", "--repo", "nobody/nothing", "--endpoint", &hub.url];
    args.extend(["--cache-dir", cache.to_str().unwrap(), "--output", "unused"]);
    let ran = run(&args);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("no public file model.safetensors in nobody/nothing at revision main"), "{ran:?}");
    assert!(ran.stderr.contains("HTTP status 404"), "{ran:?}");
}

#[test]
fn without_a_network_the_error_says_what_else_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago, and on which nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = fetch(&format!("http://{closed}"), dir.path());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains(&format!("cannot reach http://{closed}")), "{ran:?}");
    assert!(ran.stderr.contains("build --seed N"), "{ran:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
}
