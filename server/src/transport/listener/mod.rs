//! Listeners on TCP ports and Unix domain sockets, bound before models are loaded, with a limit on connections.

mod age;
mod connection;
mod limits;
mod socket_file;
mod table;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    age::MaxAge,
    connection::Connection,
    limits::{ConnectionLimits, TcpLimits},
};
use self::{
    connection::Stream,
    socket_file::{RemoveError, SocketFile, remove_stale},
    table::Table,
};
use super::{
    access::Access,
    guard::{Guard, Guarded},
    io_threads::IoThreads,
};
use crate::observe::metrics::ConnectionCounters;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix {
        /// Its file, which is created when it is bound and removed when the listener ends.
        path: PathBuf,
        /// The flag that sets it.
        flag: &'static str,
    },
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The address by which this machine reaches a listener: loopback in place of all interfaces, to which nothing can connect.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A listener that is bound and not served yet.
pub struct Listener {
    name: &'static str,
    socket: Socket,
    limits: ConnectionLimits,
    access: Access,
}

/// What the connections of a listener share.
pub struct Shared<'a> {
    /// Each connection is served on one of these threads.
    pub threads: &'a IoThreads,
    /// Ends the listener, and its connections after their open requests.
    pub stop: &'a CancellationToken,
    /// Counts the connections that are ended before their time.
    pub counters: &'a Arc<ConnectionCounters>,
    /// What a connection that there is no room for gets, in the protocol's form.
    pub refusal: &'static [u8],
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP port.
    #[error("cannot listen on {address} for {name}: {error}. Free the port or choose another with --{name}-port")]
    Port {
        /// The listener.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// A Unix domain socket.
    #[error("cannot listen on {path} for {name}: {reason}. {remedy} or choose another with {flag}", path = path.display())]
    Unix {
        /// The listener.
        name: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
        /// The flag that sets the path.
        flag: &'static str,
    },
}

impl Listener {
    /// Binds the listener called `name` (its flag is `--<name>-port`). At the limit of connections, one that rests makes
    /// room for a new one.
    ///
    /// # Errors
    /// When the port is in use or not permitted. The message names the port and its flag.
    pub async fn bind(
        name: &'static str,
        address: SocketAddr,
        limits: impl Into<ConnectionLimits>,
    ) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await;
        Self::on_port(name, address, listener, limits.into())
    }

    /// As [`bind`](Self::bind), on a port that other processes may listen on, too, if all of them do it this way
    /// (`SO_REUSEPORT`): the system spreads new connections over them.
    ///
    /// # Errors
    /// When the port is in use by another user or without the option, or not permitted.
    pub fn bind_shared(
        name: &'static str,
        address: SocketAddr,
        limits: impl Into<ConnectionLimits>,
    ) -> Result<Self, BindError> {
        /// Connections that the system keeps until they are accepted, as for other ports.
        const BACKLOG: u32 = 1024;
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        Self::on_port(name, address, listen(), limits.into())
    }

    fn on_port(
        name: &'static str,
        address: SocketAddr,
        listener: io::Result<TcpListener>,
        limits: ConnectionLimits,
    ) -> Result<Self, BindError> {
        let failed = |error| BindError::Port { name, address, error };
        let listener = listener.map_err(failed)?;
        limits.tcp.apply(&listener).map_err(failed)?;
        Ok(Self { name, socket: Socket::Tcp(listener), limits, access: Access::default() })
    }

    /// Binds the listener called `name` to a Unix domain socket, whose path `flag` sets. Replaces the socket file of a
    /// process that has ended. The permissions of folder and file, which follow the umask, decide who may connect.
    ///
    /// # Errors
    /// When a process listens on the path, when the file is not a socket, or when the path is not permitted.
    pub fn bind_unix(
        name: &'static str,
        path: &Path,
        flag: &'static str,
        limits: impl Into<ConnectionLimits>,
    ) -> Result<Self, BindError> {
        let refused = |reason: String, remedy| BindError::Unix { name, path: path.to_owned(), reason, remedy, flag };
        match remove_stale(path) {
            Ok(()) => {}
            Err(RemoveError::InUse) => {
                return Err(refused("another process listens on it".into(), "Stop that process"));
            }
            Err(RemoveError::NotASocket) => return Err(refused("the file is not a socket".into(), "Remove the file")),
            Err(RemoveError::Unknown(error)) => return Err(refused(error.to_string(), "Remove the file")),
        }
        let (listener, _file) = UnixListener::bind(path)
            .and_then(|listener| Ok((listener, SocketFile::new(path)?)))
            .map_err(|error| refused(error.to_string(), "Create the folder, shorten the path,"))?;
        Ok(Self { name, socket: Socket::Unix { listener, _file }, limits: limits.into(), access: Access::default() })
    }

    /// Guards the listener.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// What guards the listener. The protocols check each request with it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The listener's name, e.g. `onnx-http`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The port that the listener is bound to.
    ///
    /// # Errors
    /// When the system cannot report it, and for a Unix domain socket, which has no port.
    pub fn port(&self) -> io::Result<u16> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(listener.local_addr()?.port()),
            Socket::Unix { .. } => Err(io::Error::new(io::ErrorKind::Unsupported, "a Unix domain socket has no port")),
        }
    }

    /// Runs `serve` for each connection on one of the threads until it is stopped. Then the system refuses new ones, and
    /// this waits for the open ones.
    pub async fn serve<S, F>(self, shared: Shared<'_>, serve: S)
    where
        S: Fn(Guarded<Connection>) -> F + Clone + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let connections = TaskTracker::new();
        let table = Table::new(self.limits.max, Arc::clone(shared.counters));
        loop {
            let stream = tokio::select! {
                () = shared.stop.cancelled() => break,
                stream = self.accept(&table) => stream,
            };
            let leave = shared.stop.child_token();
            let guard = Guard::new(self.limits.timeouts, leave, Arc::clone(shared.counters));
            let Some((guard, place)) = table.admit(guard) else {
                // The client may be gone. One that speaks TLS could not read it.
                let _ = stream.refuse(if self.access.tls().is_some() { &[] } else { shared.refusal });
                continue;
            };
            let (serve, name, access) = (serve.clone(), self.name, self.access.clone());
            let (connection, max_age) = (Connection::new(stream, place), self.limits.max_age);
            let serving = async move {
                let served = Arc::clone(&guard);
                let serving = async move {
                    let connection = open(connection, &access, &served).await?;
                    serve(Guarded::new(connection, served)).await
                };
                let outcome = match max_age {
                    Some(max_age) => max_age.bound(&guard, serving).await,
                    None => serving.await,
                };
                if let Err(error) = outcome {
                    tracing::debug!(listener = name, %error, "connection ended early");
                }
            };
            connections.spawn_on(serving, shared.threads.next());
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }

    /// Accepts the next connection and sets `TCP_NODELAY`. After an error it logs and tries again: the error concerns one
    /// connection, or is temporary. When the process has no file left for a connection, one that rests makes room.
    async fn accept(&self, table: &Table) -> Stream {
        loop {
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
                    return stream;
                }
                Err(error) => {
                    let out_of_files = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                    if out_of_files && table.shed() {
                        tracing::debug!(listener = self.name, %error, "an idle connection makes room");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    } else {
                        tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }
}

/// Moves an accepted connection to the current thread, and performs the TLS handshake there.
async fn open(connection: Connection, access: &Access, guard: &Guard) -> io::Result<Connection> {
    let connection = connection.move_here()?;
    let Some(tls) = access.tls() else { return Ok(connection) };
    tokio::select! {
        connection = connection.handshake(tls) => connection,
        () = guard.leave().cancelled() => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended in its handshake")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_shared_port_is_shared_only_with_those_that_share_it() {
        let first = Listener::bind_shared("http", ([127, 0, 0, 1], 0).into(), 1).unwrap();
        let address = ([127, 0, 0, 1], first.port().unwrap()).into();
        assert!(Listener::bind_shared("http", address, 1).is_ok());
        assert!(Listener::bind("http", address, 1).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
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
    async fn a_listener_removes_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Listener::bind_unix("http", &path, "--http-uds", 1).unwrap();
        assert!(listener.port().is_err());
        let in_use = refusal(&path);
        assert!(
            in_use.starts_with(&format!("cannot listen on {} for http: another process", path.display())),
            "{in_use}"
        );
        assert!(in_use.ends_with("Stop that process or choose another with --http-uds"), "{in_use}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_another_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind_unix("http", &path, "--http-uds", 1).unwrap();
        // Another file has taken its path: it must not be removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(listener);
        assert!(path.exists());
        assert!(refusal(&path).contains("the file is not a socket. Remove the file"), "{}", refusal(&path));
        assert!(refusal(&folder.path().join("none/s")).contains("No such file"), "{}", refusal(&path));
    }
}
