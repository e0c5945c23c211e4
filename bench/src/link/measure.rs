//! Measures the link to a lane or to Triton: round trip, rate in each direction, signs of loss.
//!
//! No model runs: large requests name a model that does not exist, and the server refuses them after they have arrived.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_proto::inference::ServerLiveRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    analysis::stats::bootstrap,
    client::tcp_info::{TcpInfo, tcp_info},
    client::{
        call::{CallError, HttpVersion},
        connection::Connection,
        endpoint::Endpoint,
        grpc,
        inference::Inference,
    },
    model::{
        encoding::IMAGE_BYTES,
        estimate::{Estimate, Statistic},
        lane::Lane,
        limits::Limits,
    },
};

/// Number of connections, and of small requests, to time.
const ROUND_TRIPS: usize = 20;
/// A transfer that takes this much longer than a round trip measures a rate; smaller transfers are doubled.
const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// Smallest and largest transfer, in bytes.
const MIN_BYTES: usize = 64 << 10;
const MAX_BYTES: usize = 16 << 20;
/// Most small requests to pipeline.
const MAX_PIPELINED: usize = 32_768;
/// Largest response to a small request.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Name of a model that no server has.
const NO_MODEL: &str = "quintet-link-probe";

/// The rate in one direction.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// In bits per second.
    About(f64),
    /// A lower bound in bits per second: the largest transfer was too short, or the server may be the limit.
    AtLeast(f64),
    /// Why it is unknown.
    Unknown(String),
}

/// The measurements of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Opening a TCP connection, in ms: one round trip.
    pub connect_ms: Option<Estimate>,
    /// A small request on an open connection, in ms: a round trip and the server's time.
    pub request_ms: Option<Estimate>,
    /// Client to server.
    pub up: Rate,
    /// Server to client.
    pub down: Rate,
    /// The kernel's view of the connection that carried the large requests, if known.
    pub tcp: Option<TcpInfo>,
}

/// Measures the link to an endpoint that speaks HTTP/1.1 or gRPC.
///
/// # Errors
/// When nothing answers there.
pub async fn measure(endpoint: &Endpoint, version: HttpVersion, limits: Limits) -> Result<Measured, CallError> {
    let mut connects = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        within(limits.connect_timeout, endpoint.connect()).await.map_err(|e| unreachable(endpoint, &e))?;
        connects.push(start.elapsed());
    }
    let (requests, up, down, tcp) = match version {
        HttpVersion::Http1 => over_http(endpoint, limits).await.map_err(|e| unreachable(endpoint, &e))?,
        HttpVersion::Http2 => over_grpc(endpoint, limits).await?,
    };
    Ok(Measured { connect_ms: estimate(&connects), request_ms: estimate(&requests), up, down, tcp })
}

type Found = (Vec<Duration>, Rate, Rate, Option<TcpInfo>);

async fn over_http(endpoint: &Endpoint, limits: Limits) -> io::Result<Found> {
    let limit = limits.request_timeout;
    let host = endpoint.authority();
    let mut http = Http { stream: endpoint.connect().await? };
    let small_request = format!("GET /v2 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let first = within(limit, http.ask(small_request.as_bytes(), &[])).await?;
    let mut requests = Vec::with_capacity(ROUND_TRIPS);
    let mut same = true;
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        same &= within(limit, http.ask(small_request.as_bytes(), &[])).await?.bytes == first.bytes;
        requests.push(start.elapsed());
    }
    let round_trip = shortest(&requests);

    // KServe lanes have `/v2`; the jpeg lane takes base64.
    let path = if first.status == 200 { format!("/v2/models/{NO_MODEL}/infer") } else { "/embed/base64".into() };
    let body = vec![b' '; MAX_BYTES];
    let mut uploads = Vec::new();
    let mut bytes = MIN_BYTES;
    let mut up = None;
    while bytes <= MAX_BYTES && up.is_none() {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
        );
        let start = Instant::now();
        match within(limit, http.ask(head.as_bytes(), &body[..bytes])).await {
            Ok(_) => uploads.push((bytes, start.elapsed())),
            Err(error) => {
                up = Some(rate_or(&uploads, round_trip, &format!("the server refused {bytes} bytes: {error}")))
            }
        }
        if start.elapsed() > round_trip + LONG_ENOUGH {
            break;
        }
        bytes *= 2;
    }
    let up = up.unwrap_or_else(|| rate_or(&uploads, round_trip, "nothing was sent"));
    let tcp = tcp_info(&http.stream);

    let down = if same {
        within(limit, download(endpoint, small_request.as_bytes(), first.bytes, round_trip))
            .await
            .unwrap_or_else(|error| Rate::Unknown(format!("the server does not answer pipelined requests: {error}")))
    } else {
        Rate::Unknown("responses to equal requests differ in length".into())
    };
    Ok((requests, up, down, tcp))
}

/// Pipelines many small requests on one connection; their responses arrive as one stream.
async fn download(endpoint: &Endpoint, request: &[u8], answer_bytes: usize, round_trip: Duration) -> io::Result<Rate> {
    let mut stream = endpoint.connect().await?;
    let mut downloads = Vec::new();
    let mut count = 64;
    while count <= MAX_PIPELINED && count * answer_bytes <= MAX_BYTES {
        let start = Instant::now();
        let (mut from, mut to) = stream.split();
        let sent = request.repeat(count);
        let expected = count * answer_bytes;
        let reading = async {
            let (mut buffer, mut read) = (vec![0; 256 << 10], 0);
            while read < expected {
                match from.read(&mut buffer).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => read += n,
                }
            }
            Ok(())
        };
        tokio::try_join!(to.write_all(&sent), reading)?;
        downloads.push((expected, start.elapsed()));
        if start.elapsed() > round_trip + LONG_ENOUGH {
            break;
        }
        count *= 2;
    }
    // The server answers thousands of requests meanwhile, so it may be the limit.
    Ok(match rate_or(&downloads, round_trip, "nothing was received") {
        Rate::About(rate) | Rate::AtLeast(rate) => Rate::AtLeast(rate),
        unknown => unknown,
    })
}

async fn over_grpc(endpoint: &Endpoint, limits: Limits) -> Result<Found, CallError> {
    let mut connection = Connection::new(endpoint.clone(), HttpVersion::Http2, limits);
    let small_request = grpc::unary(endpoint, "ServerLive", &ServerLiveRequest {})?;
    connection.call(&small_request).await?;
    let mut requests = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        connection.call(&small_request).await?;
        requests.push(start.elapsed());
    }
    let round_trip = shortest(&requests);
    let target = crate::client::target::Target {
        lane: Lane::ONNX_GRPC,
        endpoint: endpoint.clone(),
        metrics: endpoint.clone(),
        model: NO_MODEL.into(),
    };
    let tensor = Bytes::from(vec![0; MAX_BYTES / IMAGE_BYTES * IMAGE_BYTES]);
    let mut uploads = Vec::new();
    let mut images = 1;
    while images * IMAGE_BYTES <= tensor.len() {
        let request = grpc::infer_request(&target, &Inference::plain(images, tensor.slice(..images * IMAGE_BYTES)))?;
        let start = Instant::now();
        connection.call(&request).await?;
        uploads.push((request.body_bytes(), start.elapsed()));
        if start.elapsed() > round_trip + LONG_ENOUGH {
            break;
        }
        images *= 2;
    }
    let unknown = "gRPC has no small request with a large response; measure the HTTP lane of the service".to_owned();
    Ok((requests, rate_or(&uploads, round_trip, "nothing was sent"), Rate::Unknown(unknown), None))
}

/// The rate of growing transfers: the bytes by which the last one was larger than the one before, over the additional
/// time. What both have in common (round trips, the server's time) cancels out.
fn rate_or(transfers: &[(usize, Duration)], round_trip: Duration, reason: &str) -> Rate {
    let rate = |bytes: usize, time: Duration| (!time.is_zero()).then(|| bytes as f64 * 8.0 / time.as_secs_f64());
    let found = match *transfers {
        [.., (few, quick), (many, slow)] => {
            rate(many - few, slow.saturating_sub(quick)).or_else(|| rate(many, slow.saturating_sub(round_trip)))
        }
        [(bytes, time)] => rate(bytes, time.saturating_sub(round_trip)),
        [] => None,
    };
    let long = transfers.last().is_some_and(|(_, time)| *time > round_trip + LONG_ENOUGH);
    match found {
        Some(rate) if long => Rate::About(rate),
        Some(rate) => Rate::AtLeast(rate),
        None => Rate::Unknown(reason.to_owned()),
    }
}

fn shortest(times: &[Duration]) -> Duration {
    times.iter().min().copied().unwrap_or_default()
}

fn estimate(times: &[Duration]) -> Option<Estimate> {
    let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    bootstrap(&ms, Statistic::Median, 1)
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> CallError {
    CallError::Connect { endpoint: endpoint.to_string(), reason: error.to_string() }
}

async fn within<T>(limit: Duration, done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, done).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// An HTTP/1.1 connection with access to its socket, for `TCP_INFO`.
struct Http {
    stream: TcpStream,
}

struct Answer {
    status: u16,
    bytes: usize,
}

impl Http {
    /// Sends a request and reads its complete response.
    async fn ask(&mut self, head: &[u8], body: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(head).await?;
        self.stream.write_all(body).await?;
        let mut answer = Vec::new();
        loop {
            if self.stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, expected)) = answer_length(&answer)?
                && answer.len() >= expected
            {
                return Ok(Answer { status, bytes: answer.len() });
            }
            if answer.len() > MAX_ANSWER_BYTES {
                return Err(io::Error::other("the response is too long"));
            }
        }
    }
}

/// Status and length of a response, head included, once its head has arrived.
fn answer_length(answer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(head_bytes) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..head_bytes]);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the response has no status or no length");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    let body = head.lines().filter_map(|line| line.split_once(':'));
    let mut body = body.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = body.next().and_then(|(_, value)| value.trim().parse().ok()).ok_or_else(malformed)?;
    Ok(Some((status, head_bytes.saturating_add(body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_read_from_the_head() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-Length: 5\r\n\r\n";
        assert_eq!(answer_length(answer).unwrap(), Some((404, answer.len() + 5)));
        assert_eq!(answer_length(&answer[..20]).unwrap(), None);
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(answer_length(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_rate_is_the_slope_of_growing_transfers() {
        let ms = Duration::from_millis;
        // 35 ms, and a byte per µs.
        let transfers = [(500_000, ms(535)), (1_000_000, ms(1_035))];
        assert_eq!(rate_or(&transfers, ms(35), ""), Rate::About(8e6));
        assert_eq!(rate_or(&transfers[..1], ms(35), ""), Rate::AtLeast(8e6));
        assert_eq!(rate_or(&[(1, ms(1))], ms(35), "too short"), Rate::Unknown("too short".into()));
    }
}
