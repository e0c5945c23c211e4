//! An accepted connection, on TCP, with or without TLS, or on a Unix domain socket.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use crate::transport::access::Tls;

use super::table::Place;

/// An accepted connection. Dropping it frees its place, so that there is room for another.
pub struct Connection {
    stream: Stream,
    _place: Place,
}

/// The socket of a connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    /// TCP after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    /// Ends a connection that is not served, with these bytes as far as the socket takes them at once.
    pub(super) fn refuse(self, last: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.into_std()?.write_all(last),
            Self::Unix(stream) => stream.into_std()?.write_all(last),
            // Its handshake was not yet.
            Self::Tls(_) => Ok(()),
        }
    }
}

/// Makes the same call on either kind of stream.
macro_rules! on_stream {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl Connection {
    /// A connection that has this place.
    pub(super) fn new(stream: Stream, place: Place) -> Self {
        Self { stream, _place: place }
    }

    /// Moves the connection from the event loop that accepted it to that of the current thread.
    pub(super) fn move_here(self) -> io::Result<Self> {
        let stream = match self.stream {
            Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream.into_std()?)?),
            // Its handshake was on the current thread.
            Stream::Tls(stream) => Stream::Tls(stream),
        };
        Ok(Self { stream, ..self })
    }

    /// Performs the TLS handshake. A Unix domain socket has none: the permissions of its file decide who may connect.
    pub(super) async fn handshake(self, tls: &Tls) -> io::Result<Self> {
        let stream = match self.stream {
            Stream::Tcp(stream) => Stream::Tls(Box::new(tls.accept(stream).await?)),
            other => other,
        };
        Ok(Self { stream, ..self })
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.stream, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(&mut self.stream, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(&self.stream, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.stream, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.stream, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
