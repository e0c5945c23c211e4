//! A server on loopback whose latency is known: it reads a request, waits as told, and answers.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// What the server does besides answering at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// Wait before each answer.
    pub delay: Duration,
    /// From when to when, since its start, nothing is answered.
    pub stall: Option<(Duration, Duration)>,
}

/// A running server; it ends when it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts on a free port.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let task = tokio::spawn(async move {
            let script = Arc::new(script);
            // A connection that cannot be accepted shows at the client.
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let script = Arc::clone(&script);
                let service = service_fn(move |request| answer(request, *script, started));
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
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    if !script.delay.is_zero() {
        sleep(script.delay).await;
    }
    if let Some((begin, end)) = script.stall
        && (begin..end).contains(&started.elapsed())
    {
        sleep_until(started + end).await;
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
