//! Opens the stream that HTTP is spoken on: TCP, or a Unix domain socket.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::target::Endpoint;

/// Any kind of stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens a stream to an endpoint.
///
/// # Errors
/// The system's.
pub async fn dial(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    if let Some(path) = endpoint.socket() {
        return unix(path).await;
    }
    Ok(Box::new(endpoint.connect().await?))
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> io::Result<Box<dyn Stream>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no Unix domain sockets on this system"))
}
