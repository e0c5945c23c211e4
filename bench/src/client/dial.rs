//! Opens a stream: TCP with or without TLS, or a Unix domain socket.

use std::{io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::client::{
    call::HttpVersion,
    endpoint::Endpoint,
    stream::Stream,
    tls::Handshake,
    wire::{Counted, Wire},
};

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A new stream.
pub struct Dialed {
    /// The stream that carries HTTP.
    pub stream: Box<dyn Stream>,
    /// The TLS handshake, if TLS is used.
    pub handshake: Option<Handshake>,
    /// The round trip of a packet; `None` if it is unknown, and 0 for a Unix domain socket.
    pub round_trip: Option<Duration>,
}

/// Opens a stream to an endpoint. Its bytes are counted on `wire`, including those of TLS; `closed` is cancelled when it
/// is closed.
///
/// # Errors
/// The system's error, or that of the TLS handshake.
pub async fn dial(
    endpoint: &Endpoint,
    version: HttpVersion,
    wire: Arc<Wire>,
    closed: CancellationToken,
) -> Result<Dialed, Box<dyn std::error::Error + Send + Sync>> {
    if let Some(path) = endpoint.socket() {
        let stream = Counted::new(unix(path).await?, wire, closed);
        return Ok(Dialed { stream: Box::new(stream), handshake: None, round_trip: Some(Duration::ZERO) });
    }
    let stream = endpoint.connect().await?;
    let round_trip = endpoint.round_trip(&stream);
    let stream = Counted::new(stream, wire, closed);
    Ok(match endpoint.trust() {
        None => Dialed { stream: Box::new(stream), handshake: None, round_trip },
        Some(trust) => {
            let (stream, handshake) = trust.handshake(endpoint.host(), version, stream).await?;
            Dialed { stream: Box::new(stream), handshake: Some(handshake), round_trip }
        }
    })
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(path).await
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> io::Result<tokio::net::TcpStream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix domain sockets"))
}
