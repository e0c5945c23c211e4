//! What the client itself costs for each protocol: requests to servers that read a request and answer nothing.

use std::{convert::Infallible, io, net::SocketAddr};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    analysis::pairing::{Pair, paired},
    client::{call::HttpVersion, grpc, http as kserve, inference::Inference, target::Target},
    model::{
        block::MeasuredBlock, difference::Difference, encoding::IMAGE_BYTES, estimate::Statistic, lane::Lane,
        limits::Limits, variant::Variant,
    },
    run::{clock::RunClock, lane_client::LaneClient},
};

/// Blocks of each protocol, and requests of a block.
const BLOCKS: usize = 10;
const REQUESTS: usize = 20;
/// HTTP/2 windows, so that no request waits for a WINDOW_UPDATE.
const WINDOW_BYTES: u32 = 16 << 20;

type Body = BoxBody<Bytes, Infallible>;

/// What a request with one image costs without a model.
#[derive(Clone, Copy, Debug)]
pub struct ClientCost {
    /// Median over HTTP, in ms.
    pub http_ms: f64,
    /// Median over gRPC, in ms.
    pub grpc_ms: f64,
    /// gRPC minus HTTP, paired over interleaved blocks.
    pub difference: Difference,
}

/// A server that answers without a model; it stops when it is dropped.
struct NullServer {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl NullServer {
    async fn start(version: HttpVersion) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let io = TokioIo::new(stream);
                match version {
                    HttpVersion::Http1 => {
                        tokio::spawn(http1::Builder::new().serve_connection(io, service_fn(answer_http)));
                    }
                    HttpVersion::Http2 => {
                        let mut server = http2::Builder::new(TokioExecutor::new());
                        server.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
                        tokio::spawn(server.serve_connection(io, service_fn(answer_grpc)));
                    }
                }
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }
}

async fn read(request: Request<Incoming>) {
    let mut body = request.into_body();
    // Read without keeping: a failure shows at the client.
    while let Some(Ok(_)) = body.frame().await {}
}

async fn answer_http(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    read(request).await;
    Ok(Response::new(Full::new(Bytes::from_static(b"{}")).boxed()))
}

/// An empty message and the status OK.
async fn answer_grpc(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    read(request).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let mut response = Response::new(StreamBody::new(stream::iter(frames.map(Ok))).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Measures the client's cost over both protocols in turns.
///
/// # Errors
/// When a server cannot be started, or a request fails.
pub async fn client_cost(clock: RunClock, seed: u64) -> anyhow::Result<ClientCost> {
    let tensor = Bytes::from(vec![0; IMAGE_BYTES]);
    let mut sides = Vec::new();
    for (lane, version) in [(Lane::ONNX_HTTP, HttpVersion::Http1), (Lane::ONNX_GRPC, HttpVersion::Http2)] {
        let server = NullServer::start(version).await?;
        let endpoint: crate::client::endpoint::Endpoint = server.address.to_string().parse()?;
        let target = Target { lane, endpoint: endpoint.clone(), metrics: endpoint, model: "null".into() };
        let request = match version {
            HttpVersion::Http1 => kserve::infer_request(&target, &Inference::plain(1, tensor.clone()))?,
            HttpVersion::Http2 => grpc::infer_request(&target, &Inference::plain(1, tensor.clone()))?,
        };
        let client = LaneClient::new(&target, Variant::plain(lane), Limits::default(), clock.clone());
        sides.push((server, client, [request], Vec::new()));
    }
    for _ in 0..BLOCKS {
        for (_, client, request, blocks) in &mut sides {
            let block = client.block(request, 0..REQUESTS, |_| {}).await?;
            if let Some(first) = &block.recorder.failures.first {
                anyhow::bail!("a request to the null server failed: {first}");
            }
            blocks.push(latencies_ms(&block));
        }
    }
    let [(.., http), (.., grpc)] = &sides[..] else { anyhow::bail!("two sides are measured") };
    let median = |blocks: &[Vec<f64>]| Statistic::Median.of(&mut blocks.concat()).context("nothing was measured");
    let pairs: Vec<Pair<'_>> = grpc.iter().zip(http).map(|(a, b)| (&a[..], &b[..])).collect();
    let difference = paired(&pairs, Statistic::Median, 1.0, seed).context("nothing was measured")?;
    Ok(ClientCost { http_ms: median(http)?, grpc_ms: median(grpc)?, difference })
}

fn latencies_ms(block: &MeasuredBlock) -> Vec<f64> {
    block.recorder.samples().iter().map(|sample| sample.latency.as_secs_f64() * 1e3).collect()
}
