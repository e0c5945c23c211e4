//! TCP listeners: bound before anything is loaded, with a limit on connections.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// A listener that nobody serves yet.
pub struct Listener {
    name: &'static str,
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {name}: {error}. Free the port or choose another with --{name}-port")]
pub struct BindError {
    name: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl Listener {
    /// Binds the listener called `name` (its flag is `--<name>-port`). At most `max_connections` are open
    /// at once; more wait in the system's backlog.
    ///
    /// # Errors
    /// When the port is taken or not allowed; the message names it, and the flag.
    pub async fn bind(name: &'static str, address: SocketAddr, max_connections: usize) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|error| BindError { name, address, error })?;
        Ok(Self { name, listener, permits: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))) })
    }

    /// The listener's name, e.g. `onnx-http`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The port that it really has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The next connection, with `TCP_NODELAY` set. Failures to accept are logged and waited out: they
    /// concern one connection, or pass.
    pub async fn accept(&self) -> Connection {
        loop {
            // The semaphore is never closed.
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(listener = self.name, %error, "cannot set TCP_NODELAY");
                    }
                    return Connection { stream, _permit: permit };
                }
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// An accepted connection; dropping it makes room for another.
pub struct Connection {
    stream: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = Listener::bind("onnx-http", ([127, 0, 0, 1], 0).into(), 1).await.unwrap();
        let address = ([127, 0, 0, 1], first.port().unwrap()).into();
        let error = Listener::bind("trt-http", address, 1).await.err().unwrap().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address} for trt-http: ")), "{error}");
        assert!(error.ends_with("choose another with --trt-http-port"), "{error}");
    }
}
