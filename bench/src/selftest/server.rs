//! A server on loopback whose latency is known: it reads a request, waits as scripted, and answers.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use quintet_proto::SERVER_TIMING;
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

type Body = BoxBody<Bytes, Infallible>;

/// Delays of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// Wait before each response.
    pub delay: Duration,
    /// Answers one request at a time: the others wait in a queue.
    pub one_at_a_time: bool,
    /// Begin and end of the time, since its start, in which nothing is answered.
    pub stall: Option<(Duration, Duration)>,
    /// Delays in its stages, reported in `Server-Timing`.
    pub stages: Option<Stages>,
}

/// Delays in stages of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// Before the body is read.
    pub receive: Duration,
    /// Before the model runs.
    pub queue: Duration,
    /// While it runs.
    pub infer: Duration,
    /// Between the two halves of the response's body: on the wire, so not part of the server's own times.
    pub send: Duration,
}

/// A running server; it stops when it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts on a free port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let task = tokio::spawn(async move {
            let (script, queue) = (Arc::new(script), Arc::new(Mutex::new(())));
            // If a connection cannot be accepted, the client reports it.
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (script, queue) = (Arc::clone(&script), Arc::clone(&queue));
                let service = service_fn(move |request| answer(request, *script, started, Arc::clone(&queue)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Script,
    started: Instant,
    queue: Arc<Mutex<()>>,
) -> Result<Response<Body>, Infallible> {
    if let Some(stages) = script.stages {
        return Ok(staged(request, stages).await);
    }
    let _ = request.into_body().collect().await;
    if script.one_at_a_time {
        let _turn = queue.lock().await;
        // The runtime's timer counts whole milliseconds.
        let _ = spawn_blocking(move || std::thread::sleep(script.delay)).await;
    } else if !script.delay.is_zero() {
        sleep(script.delay).await;
    }
    if let Some((begin, end)) = script.stall
        && (begin..end).contains(&started.elapsed())
    {
        sleep_until(started + end).await;
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}")).boxed()))
}

/// Waits in each stage, and reports how long each took by its own clock.
async fn staged(request: Request<Incoming>, stages: Stages) -> Response<Body> {
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        (now - std::mem::replace(&mut last, now)).as_secs_f64() * 1e3
    };
    sleep(stages.receive).await;
    let _ = request.into_body().collect().await;
    let receive = lap();
    sleep(stages.queue).await;
    let queue = lap();
    sleep(stages.infer).await;
    let infer = lap();
    let timing = format!(
        "receive;dur={receive}, parse;dur=0, queue;dur={queue}, gather;dur=0, copy_in;dur=0, infer;dur={infer}, \
         copy_out;dur=0, encode;dur=0"
    );
    let halves = stream::unfold(0, move |half: u8| async move {
        if half == 1 {
            sleep(stages.send).await;
        }
        let text = if half == 0 { "{" } else { "}" };
        (half < 2).then(|| (Ok(Frame::data(Bytes::from_static(text.as_bytes()))), half + 1))
    });
    let mut response = Response::new(StreamBody::new(halves).boxed());
    if let Ok(timing) = timing.parse() {
        response.headers_mut().insert(SERVER_TIMING, timing);
    }
    response
}
