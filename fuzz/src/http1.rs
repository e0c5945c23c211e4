//! A connection of HTTP/1.1, which is answered as hyper answers it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
};

use axum::{Router, body::Body, extract::Request};
use http::StatusCode;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use quintet_server::transport::http1::serve::serve_connection;
use tokio_util::sync::CancellationToken;

use crate::{
    input::{Input, Pieces},
    models::{echoes, runtime},
    stream::{Stream, Written},
};

/// Answers with the request.
async fn echo(request: Request) -> (StatusCode, Vec<u8>) {
    let (head, body) = request.into_parts();
    match axum::body::to_bytes(Body::new(body), usize::MAX).await {
        Ok(body) => {
            (StatusCode::OK, [format!("{} {} {:?}\n", head.method, head.uri, head.headers).as_bytes(), &body].concat())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into()),
    }
}

fn router() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| Router::new().fallback(echo)).clone()
}

/// Whether a task asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// What was written when the connection has read all that there is, and nothing happens any more. Hyper gives way to other
/// tasks now and then: it asks to be polled again.
fn written(serving: impl Future, written: &Written) -> Vec<u8> {
    let _context = runtime().enter();
    let mut serving = std::pin::pin!(serving);
    let (mut bytes, mut idle) = (Vec::new(), 0);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    while idle < 8 {
        let ended = serving.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let more = written.take();
        idle = if more.is_empty() && !woken.0.swap(false, Relaxed) { idle + 1 } else { 0 };
        bytes.extend(more);
        if ended {
            break;
        }
    }
    bytes
}

/// The refusal of a malformed head. Hyper sends it earlier or later, depending on how the head was cut.
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n";

/// The lines of responses but for those that differ: the time, `Connection`, which only says what happens then, and a last
/// [`MALFORMED`].
fn comparable(bytes: &[u8]) -> Vec<&[u8]> {
    let end = bytes.windows(MALFORMED.len()).rposition(|part| part == MALFORMED).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    let mut lines = bytes.split(|&byte| byte == b'\n').collect::<Vec<_>>();
    lines.retain(|line| !line.starts_with(b"date: ") && !line.starts_with(b"connection: "));
    lines
}

/// The input: how the bytes are cut, and the bytes.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let seed = input.byte();
    let (stream, output) = Stream::new(input.0, Pieces::new(seed));
    let ours = written(serve_connection(stream, router(), echoes(), CancellationToken::new()), &output);
    let (stream, output) = Stream::new(input.0, Pieces::new(0));
    let mut builder = hyper::server::conn::http1::Builder::new();
    let theirs = builder.timer(hyper_util::rt::TokioTimer::new());
    let theirs = theirs.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router()));
    let theirs = written(theirs, &output);
    assert!(
        comparable(&ours) == comparable(&theirs),
        "ours:\n{}\nhyper's:\n{}",
        ours.escape_ascii(),
        theirs.escape_ascii()
    );
}
