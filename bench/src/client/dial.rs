//! Opens a stream: TCP, with TLS or without, or a Unix domain socket.

use std::{io, sync::Arc};

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

/// A stream that was just opened.
pub struct Dialed {
    /// What HTTP is spoken on.
    pub stream: Box<dyn Stream>,
    /// The TLS handshake, where TLS is spoken.
    pub handshake: Option<Handshake>,
}

/// Opens a stream to an endpoint. Its bytes are counted on the wire, TLS's own with them; `gone` is cancelled when it is
/// closed.
///
/// # Errors
/// The system's, or those of TLS.
pub async fn dial(
    endpoint: &Endpoint,
    version: HttpVersion,
    wire: Arc<Wire>,
    gone: CancellationToken,
) -> Result<Dialed, Box<dyn std::error::Error + Send + Sync>> {
    if let Some(path) = endpoint.socket() {
        let stream = Counted::new(unix(path).await?, wire, gone);
        return Ok(Dialed { stream: Box::new(stream), handshake: None });
    }
    let stream = Counted::new(endpoint.connect().await?, wire, gone);
    Ok(match endpoint.trust() {
        None => Dialed { stream: Box::new(stream), handshake: None },
        Some(trust) => {
            let (stream, handshake) = trust.handshake(endpoint.host(), version, stream).await?;
            Dialed { stream: Box::new(stream), handshake: Some(handshake) }
        }
    })
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(path).await
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> io::Result<tokio::net::TcpStream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no Unix domain sockets on this system"))
}
