//! Listeners on TCP and on Unix domain sockets: bound before anything is loaded, with a limit on connections.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::io_threads::IoThreads;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a Unix domain socket.
    Unix {
        /// Its file, which is made when it is bound and removed when the listener ends.
        path: PathBuf,
        /// The flag that chose it.
        flag: &'static str,
    },
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A listener that nobody serves yet.
pub struct Listener {
    name: &'static str,
    socket: Socket,
    permits: Arc<Semaphore>,
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP port.
    #[error("cannot listen on {address} for {name}: {error}. Free the port or choose another with --{name}-port")]
    Port {
        /// The listener.
        name: &'static str,
        /// Where it was to be.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// A Unix domain socket.
    #[error("cannot listen on {path} for {name}: {reason}. {remedy} or choose another with {flag}", path = path.display())]
    Unix {
        /// The listener.
        name: &'static str,
        /// Where it was to be.
        path: PathBuf,
        /// What stands against it.
        reason: String,
        /// What would help.
        remedy: &'static str,
        /// The flag that chose it.
        flag: &'static str,
    },
}

impl Listener {
    /// Binds the listener called `name` (its flag is `--<name>-port`). At most `max_connections` are open
    /// at once; more wait in the system's backlog.
    ///
    /// # Errors
    /// When the port is taken or not allowed; the message names it, and the flag.
    pub async fn bind(name: &'static str, address: SocketAddr, max_connections: usize) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|error| BindError::Port { name, address, error })?;
        Ok(Self::new(name, Socket::Tcp(listener), max_connections))
    }

    /// The same on a Unix domain socket that `flag` chose. A socket file that a process has left behind is
    /// replaced. Who may connect is up to the folder's and the file's permissions, which follow the umask.
    ///
    /// # Errors
    /// When the path is taken, by another server or by what is no socket, or not allowed.
    pub fn bind_unix(
        name: &'static str,
        path: &Path,
        flag: &'static str,
        max_connections: usize,
    ) -> Result<Self, BindError> {
        let refused = |reason: String, remedy| BindError::Unix { name, path: path.to_owned(), reason, remedy, flag };
        match vacate(path) {
            Ok(()) => {}
            Err(Occupied::Alive) => return Err(refused("another process listens there".into(), "Stop it")),
            Err(Occupied::NoSocket) => return Err(refused("it exists and is no socket".into(), "Remove it")),
            Err(Occupied::Unknown(error)) => return Err(refused(error.to_string(), "Remove it")),
        }
        let (listener, _file) = UnixListener::bind(path)
            .and_then(|listener| Ok((listener, SocketFile::new(path)?)))
            .map_err(|error| refused(error.to_string(), "Make the folder, and the path short,"))?;
        Ok(Self::new(name, Socket::Unix { listener, _file }, max_connections))
    }

    fn new(name: &'static str, socket: Socket, max_connections: usize) -> Self {
        Self { name, socket, permits: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))) }
    }

    /// The listener's name, e.g. `onnx-http`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The port that it really has.
    ///
    /// # Errors
    /// When the system does not tell, and for a Unix domain socket, which has none.
    pub fn port(&self) -> io::Result<u16> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(listener.local_addr()?.port()),
            Socket::Unix { .. } => Err(io::Error::new(io::ErrorKind::Unsupported, "a Unix domain socket has no port")),
        }
    }

    /// Hands each connection to `serve`, on one of the threads, until `stop`; then waits for those that are open.
    pub async fn serve<S, F>(self, threads: &IoThreads, stop: &CancellationToken, serve: S)
    where
        S: Fn(Connection) -> F + Clone + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let connections = TaskTracker::new();
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => break,
                connection = self.accept() => connection,
            };
            let (serve, name) = (serve.clone(), self.name);
            let serving = async move {
                let outcome = match connection.move_here() {
                    Ok(connection) => serve(connection).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = outcome {
                    tracing::debug!(listener = name, %error, "connection ended early");
                }
            };
            connections.spawn_on(serving, threads.next());
        }
        connections.close();
        connections.wait().await;
    }

    /// The next connection, with `TCP_NODELAY` set. Failures to accept are logged and waited out: they
    /// concern one connection, or pass.
    async fn accept(&self) -> Connection {
        loop {
            // The semaphore is never closed.
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            let accepted = match &self.socket {
                Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
                Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => {
                    if let Stream::Tcp(stream) = &stream
                        && let Err(error) = stream.set_nodelay(true)
                    {
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

/// Why a socket's path is not free.
enum Occupied {
    Alive,
    NoSocket,
    Unknown(io::Error),
}

/// Removes the socket file of a process that is gone.
fn vacate(path: &Path) -> Result<(), Occupied> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Occupied::Unknown(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(Occupied::NoSocket),
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(Occupied::Alive),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the socket of a process that is gone");
            fs::remove_file(path).map_err(Occupied::Unknown)
        }
        Err(error) => Err(Occupied::Unknown(error)),
    }
}

/// A bound socket's file; it goes with this, unless another has taken its place.
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: Self::id(path)? })
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// An accepted connection; dropping it makes room for another.
pub struct Connection {
    stream: Stream,
    _permit: Option<OwnedSemaphorePermit>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on either kind of stream.
macro_rules! on_stream {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl Connection {
    /// From the event loop that accepted it to that of the current thread.
    fn move_here(self) -> io::Result<Self> {
        let stream = match self.stream {
            Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream.into_std()?)?),
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

    fn refusal(path: &Path) -> String {
        Listener::bind_unix("http", path, "--http-uds", 1).err().unwrap().to_string()
    }

    #[tokio::test]
    async fn a_socket_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Listener::bind_unix("http", &path, "--http-uds", 1).unwrap();
        assert!(listener.port().is_err());
        let taken = refusal(&path);
        assert!(
            taken.starts_with(&format!("cannot listen on {} for http: another process", path.display())),
            "{taken}"
        );
        assert!(taken.ends_with("Stop it or choose another with --http-uds"), "{taken}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind_unix("http", &path, "--http-uds", 1).unwrap();
        // Somebody else's by now.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(listener);
        assert!(path.exists());
        assert!(refusal(&path).contains("it exists and is no socket. Remove it"), "{}", refusal(&path));
        assert!(refusal(&folder.path().join("none/s")).contains("No such file"), "{}", refusal(&path));
    }
}
